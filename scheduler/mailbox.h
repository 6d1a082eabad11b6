// A bounded queue with many writers and one reader.
//
// Two doors. TryPost is for what the world may send in any number: when `capacity` items wait it says no, at once, and
// the caller refuses its own caller. PostOwed is for items whose number is bounded by something that was let in before
// (one cancel per accepted request, one end per attempt): it always takes them, because losing one would lose a
// booking.
//
// The reader takes everything that waits in one go, so that a burst costs one lock.
#ifndef TANDEM_SCHEDULER_MAILBOX_H_
#define TANDEM_SCHEDULER_MAILBOX_H_

#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/steady_wait.h"

namespace tandem::scheduler {

template <typename T>
class Mailbox {
 public:
  explicit Mailbox(size_t capacity) : capacity_(capacity) {}

  // False when full or closed; `item` is then untouched.
  bool TryPost(T&& item) {
    absl::MutexLock lock(&mu_);
    if (closed_ || items_.size() >= capacity_) return false;
    Push(std::move(item));
    return true;
  }

  // False only when closed.
  bool PostOwed(T&& item) {
    absl::MutexLock lock(&mu_);
    if (closed_) return false;
    Push(std::move(item));
    return true;
  }

  // Nothing gets in any more; the reader still takes what waits.
  void Close() {
    absl::MutexLock lock(&mu_);
    closed_ = true;
    arrived_.SignalAll();
  }

  // Waits up to `patience` for items and moves all of them into `out`, in the order of posting. False when closed and
  // empty: nothing will ever come. `out` is emptied first and keeps its room. One thread only.
  bool TakeAll(absl::Duration patience, std::vector<T>* out) {
    out->clear();
    absl::MutexLock lock(&mu_);
    if (items_.empty() && !closed_ && patience > absl::ZeroDuration()) {
      const SteadyTime until = SteadyDeadline(patience);
      reader_waits_ = true;
      while (items_.empty() && !closed_) {
        if (arrived_.WaitUntil(&mu_, until)) break;
      }
      reader_waits_ = false;
    }
    out->swap(items_);
    return !(out->empty() && closed_);
  }

 private:
  void Push(T&& item) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    items_.push_back(std::move(item));
    if (reader_waits_) {
      reader_waits_ = false;  // one wake per sleep; those that come before it runs are taken along
      arrived_.Signal();
    }
  }

  const size_t capacity_;
  absl::Mutex mu_;
  SteadyCondVar arrived_;
  std::vector<T> items_ ABSL_GUARDED_BY(mu_);
  bool reader_waits_ ABSL_GUARDED_BY(mu_) = false;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_MAILBOX_H_
