// Lets go of clients that do not read.
//
// A client that does not read holds up nobody: its tokens are in the request's log, and one message is under way to it.
// But its call, its connection's buffers and its place in the engine stay taken for as long as it likes. So whoever
// leaves one message untaken for `patience` loses its call, as if it had gone away by itself; with an idempotency key
// it may come back and Resume.
//
// Any thread. A call is in the table from its first message on until it is done.
#ifndef TANDEM_SCHEDULER_SLOW_CLIENTS_H_
#define TANDEM_SCHEDULER_SLOW_CLIENTS_H_

#include <atomic>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/types.h"

namespace tandem::scheduler {

// A call that writes messages one after another.
class WatchedCall {
 public:
  virtual ~WatchedCall() = default;
  // When the message under way was handed over; kNever: none is.
  core::Instant writing_since() const { return {writing_since_us_.load(std::memory_order_relaxed)}; }
  // Cancels the call. Does nothing once it is done.
  virtual void Drop() = 0;
  // What keeps this object while Drop runs. REQUIRES: the call is not done.
  virtual std::shared_ptr<WatchedCall> Keep() = 0;

 protected:
  void Writing(core::Instant now) { writing_since_us_.store(now.us, std::memory_order_relaxed); }
  void Written() { Writing(core::kNever); }

 private:
  std::atomic<int64_t> writing_since_us_{core::kNever.us};
};

class SlowClients {
 public:
  // `patience` 0: everybody may take as long as he likes.
  explicit SlowClients(core::Duration patience) : patience_(patience) {}

  void Watch(WatchedCall* call);
  void Forget(WatchedCall* call);
  // Drops those that have had a message under way since `now` less the patience. From time to time.
  void DropStalled(core::Instant now);

  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  const core::Duration patience_;
  std::atomic<uint64_t> dropped_{0};
  absl::Mutex mu_;
  absl::flat_hash_set<WatchedCall*> calls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SLOW_CLIENTS_H_
