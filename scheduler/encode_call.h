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
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "scheduler/core_loop.h"
#include "scheduler/grpc_error.h"
#include "scheduler/model_catalog.h"
#include "scheduler/request_log.h"
#include "scheduler/request_metrics.h"
#include "scheduler/request_store.h"
#include "scheduler/token_router.h"
#include "scheduler/tokenizer/tokenizer.h"
#include "scheduler/tokenizer_pool.h"

namespace tandem::scheduler {

class EncodeCall : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<EncodeCall> {
 public:
  struct Parts {
    CoreLoop* core;
    RequestStore* store;
    TokenRouter* router;
    TokenizerPool* pool;
    RequestMetrics* metrics;
    RequestLog* log;
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
  void Refuse(const Error& error);
  // Prepares the questions in the pool and asks them. `bytes` is the size of what they are made of.
  void Begin(const grpc::CallbackServerContext& context, size_t bytes);

  void OnCancel() override;
  void OnDone() override { const auto self = std::move(self_); }

 protected:
  EncodeCall(const Parts& parts, RefusedCall asked, ServedModelPtr model, int32_t priority);

  // On a thread of the pool: the questions, or why there are none. Asks Unwanted() before each piece of work.
  virtual std::optional<Error> Prepare(std::vector<Question>* questions) = 0;
  // All are answered: one vector each.
  virtual void Respond(absl::Span<const Question> questions, absl::Span<const std::vector<float>> vectors) = 0;

  const ServedModel& model() const { return *model_; }
  // Why nothing more need be prepared: the caller has gone, or its deadline has passed.
  std::optional<Error> Unwanted() const ABSL_LOCKS_EXCLUDED(mu_);
  // How the model reads a text: as long as it takes, or as `truncate`, which is EmbedRequest's, has it.
  tokenizer::PairOptions InputOptions(const std::optional<uint32_t>& truncate) const;
  // `input` as a question, or in the caller's words why it is none. `field` names it for the caller.
  std::optional<Error> Take(absl::StatusOr<tokenizer::EncoderInput> input, const tokenizer::PairOptions& options,
                            const std::string& field, Question* question) const;
  Error Unreadable(const absl::Status& status, const tokenizer::PairOptions& options, const std::string& field) const;

 private:
  class Seat;

  void Ask();
  void EnterMore();
  // True while there is something to enter and room for it; then `*index` is to be entered.
  bool TakeNext(size_t* index) ABSL_LOCKS_EXCLUDED(mu_);
  void Enter(size_t index);
  // A seat's end: with its vector, or with why there is none.
  void OnAnswered(Seat* seat, std::string vector);
  void OnFailed(Seat* seat, const Error& error);
  void Fail(const Error& error);
  void Settle(Seat* seat);

  const Parts parts_;
  const ServedModelPtr model_;  // kept while the call lives, whatever becomes of the model
  const int32_t priority_;
  const RefusedCall asked_;
  const core::Instant arrived_;
  std::optional<core::Duration> deadline_;  // from arrived_
  std::shared_ptr<EncodeCall> self_;

  std::vector<Question> questions_;  // fixed once Ask began
  mutable absl::Mutex mu_;
  std::vector<std::vector<float>> vectors_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<Seat>> seats_ ABSL_GUARDED_BY(mu_);  // of those in the core
  std::deque<size_t> again_ ABSL_GUARDED_BY(mu_);                  // the queue was full for them;
  size_t rooms_ ABSL_GUARDED_BY(mu_) = 0;                          // so many may try again: as many were answered since
  size_t next_ ABSL_GUARDED_BY(mu_) = 0;
  size_t in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  bool entering_ ABSL_GUARDED_BY(mu_) = false;
  bool asking_ ABSL_GUARDED_BY(mu_) = false;  // Begin is over, so the end may come
  bool over_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Error> failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ENCODE_CALL_H_
