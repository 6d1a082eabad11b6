// The first seconds of a scheduler: which requests of an earlier one may yet come back, and who waits for them.
//
// A worker that attaches says in its Hello which requests it holds; their tokens follow on another stream, a moment
// later. A client whose stream broke with the earlier scheduler may be here before both. Its Resume waits
//   until the request is found,
//   while workers may still come (the reattach window of the core), and
//   while some worker has announced the request, or one whose key is not known yet, and not told it;
// and at most until `grace` has passed since the start, so that a worker that dies in between keeps nobody waiting.
//
// Any thread may call. Callbacks run on the thread that brought the news, without the lock.
#ifndef TANDEM_SCHEDULER_REATTACHMENT_H_
#define TANDEM_SCHEDULER_REATTACHMENT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/types.h"
#include "scheduler/request_store.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

class Reattachment {
 public:
  // By id, or by tenant and key.
  struct Which {
    std::optional<core::RequestId> id;
    std::string tenant, key;
  };
  // Null: it will not come.
  using Then = std::function<void(std::shared_ptr<RequestStream>)>;

  Reattachment(const RequestStore* store, uint64_t leader_epoch) : store_(store), leader_epoch_(leader_epoch) {}

  // A worker said Hello. Before the core hears of it, so that no window closes in between.
  void OnHello(const v1::Hello& hello);
  // It is in the store.
  void OnFound(const std::shared_ptr<RequestStream>& stream);
  // It was announced and will not be served.
  void OnGivenUp(core::RequestId id);
  // The core waits for no worker any more.
  void OnSettled();
  // The grace has passed, or the scheduler shuts down: nobody waits from here on.
  void Close();

  // Calls `then` once: at once with what the store has, or when it comes or can no longer come.
  void Await(Which which, Then then);

 private:
  struct Waiter {
    Which which;
    Then then;
  };
  std::shared_ptr<RequestStream> Find(const Which& which) const;
  static bool Means(const Which& which, const RequestStream& stream);
  bool MayCome(const Which& which) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Those for whom nothing can come any more.
  std::vector<Waiter> TakeHopeless() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static void TellHopeless(std::vector<Waiter> waiters);

  const RequestStore* const store_;
  const uint64_t leader_epoch_;
  absl::Mutex mu_;
  absl::flat_hash_set<core::RequestId> announced_ ABSL_GUARDED_BY(mu_);  // and not told yet
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mu_);
  bool settled_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_REATTACHMENT_H_
