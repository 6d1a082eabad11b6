// What Embed and Rerank share: a call of many questions, each of which an encoder answers with one vector.
//
// Every question is a request of its own to the core: queued, assigned, moved and counted as any other, so that a call
// of thousands of texts does not hold up another tenant's one. Few of a call are in the core at a time; the next enters
// when one is answered. The engine batches what it has, whichever call it is of. All are answered or the call fails,
// and what still runs of a failed or cancelled call is cancelled. An encoder's answer depends on its question alone, so
// one whose group is lost is simply computed again.
//
// Owns itself: gRPC holds it until OnDone, and whatever works for it (the pool, a seat) holds it too. Any thread.
#ifndef TANDEM_SCHEDULER_ENCODE_CALL_H_
#define TANDEM_SCHEDULER_ENCODE_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "scheduler/core_loop.h"
#include "scheduler/grpc_error.h"
#include "scheduler/model_catalog.h"
#include "scheduler/request_store.h"
#include "scheduler/token_router.h"
#include "scheduler/tokenizer_pool.h"

namespace tandem::scheduler {

class EncodeCall : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<EncodeCall> {
 public:
  struct Parts {
    CoreLoop* core;
    RequestStore* store;
    TokenRouter* router;
    TokenizerPool* pool;
  };
  struct Question {
    std::string field;  // how the call names it, "inputs[3]"
    std::vector<uint32_t> ids;
    size_t second_at = 0;
    const std::string* image = nullptr;  // a file in the place of a text; part of the call's request
    bool truncated = false;
  };

  // Keeps the call alive until OnDone. Once, right after construction.
  void Hold() { self_ = shared_from_this(); }
  // Ends the call before it asked anything.
  void Refuse(const Error& error) { Finish(ToGrpc(error)); }
  // Prepares the questions in the pool and asks them. `bytes` is the size of what they are made of.
  void Begin(const grpc::CallbackServerContext& context, size_t bytes);

  void OnCancel() override;
  void OnDone() override { const auto self = std::move(self_); }

 protected:
  EncodeCall(const Parts& parts, ServedModelPtr model, int32_t priority, std::string tenant);

  // On a thread of the pool: the questions, or why there are none.
  virtual std::optional<Error> Prepare(std::vector<Question>* questions) = 0;
  // All are answered: one vector each.
  virtual void Respond(absl::Span<const Question> questions, absl::Span<const std::vector<float>> vectors) = 0;

  const ServedModel& model() const { return *model_; }
  // The text or the pair as the model reads it. `field` names it for the caller; `truncate` is EmbedRequest's.
  std::optional<Error> Encode(const std::string& first, const std::string* second,
                              const std::optional<uint32_t>& truncate, const std::string& field,
                              Question* question) const;

 private:
  class Seat;

  void Ask();
  void EnterMore();
  // True while there is something to enter and room for it; then `*index` is to be entered.
  bool TakeNext(size_t* index) ABSL_LOCKS_EXCLUDED(mu_);
  void Enter(size_t index);
  // A seat's end: with its vector, or with why there is none.
  void OnAnswered(Seat* seat, std::string vector);
  void OnFailed(Seat* seat, const grpc::Status& status);
  void Fail(const grpc::Status& status);
  void Settle(Seat* seat);

  const Parts parts_;
  const ServedModelPtr model_;  // kept while the call lives, whatever becomes of the model
  const int32_t priority_;
  const std::string tenant_;
  const core::Instant arrived_;
  std::optional<core::Duration> deadline_;  // from arrived_
  std::shared_ptr<EncodeCall> self_;

  std::vector<Question> questions_;  // fixed once Ask began
  absl::Mutex mu_;
  std::vector<std::vector<float>> vectors_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<Seat>> seats_ ABSL_GUARDED_BY(mu_);  // of those in the core
  std::deque<size_t> again_ ABSL_GUARDED_BY(mu_);                  // the queue was full for them;
  size_t rooms_ ABSL_GUARDED_BY(mu_) = 0;                          // so many may try again: as many were answered since
  size_t next_ ABSL_GUARDED_BY(mu_) = 0;
  size_t in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  bool entering_ ABSL_GUARDED_BY(mu_) = false;
  bool asking_ ABSL_GUARDED_BY(mu_) = false;  // Begin is over, so the end may come
  bool over_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<grpc::Status> failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ENCODE_CALL_H_
