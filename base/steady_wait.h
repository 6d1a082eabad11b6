// Waits that end in time whatever is done to the wall clock.
//
// absl's timed waits (CondVar::WaitWithTimeout, Mutex::AwaitWithTimeout, Notification::WaitForNotificationWithTimeout)
// turn their time into a moment of CLOCK_REALTIME that the kernel waits for: where that clock is set back by an hour
// meanwhile, the wait takes an hour more, however short it was. What stands here waits by the steady clock, under the
// same absl::Mutex. tests/tree_test.cc sees to it that programs use these.
#ifndef TANDEM_BASE_STEADY_WAIT_H_
#define TANDEM_BASE_STEADY_WAIT_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tandem {

using SteadyTime = std::chrono::steady_clock::time_point;

// Now and `wait` more; a wait of more than a year, as for ever, is one of a year.
inline SteadyTime SteadyDeadline(absl::Duration wait) {
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(std::min(wait, absl::Hours(24 * 365)));
}
inline absl::Duration SteadySince(SteadyTime then) { return absl::FromChrono(std::chrono::steady_clock::now() - then); }

// As absl::CondVar: it may wake for no reason, so its users look again.
class SteadyCondVar {
 public:
  void Signal() { changed_.notify_one(); }
  void SignalAll() { changed_.notify_all(); }

  void Wait(absl::Mutex* mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    Held held{mu};
    changed_.wait(held);
  }
  // True: the time has come.
  bool WaitUntil(absl::Mutex* mu, SteadyTime until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    Held held{mu};
    return changed_.wait_until(held, until) == std::cv_status::timeout;
  }
  bool WaitFor(absl::Mutex* mu, absl::Duration wait) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return WaitUntil(mu, SteadyDeadline(wait));
  }

 private:
  struct Held {
    void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu->Lock(); }
    void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu->Unlock(); }
    absl::Mutex* mu;
  };
  std::condition_variable_any changed_;
};

// Set once, by any thread.
class SteadyNotification {
 public:
  void Notify() {
    absl::MutexLock lock(&mu_);
    notified_ = true;
    changed_.SignalAll();
  }
  // Whether it was set before `wait` was over.
  bool WaitFor(absl::Duration wait) {
    const SteadyTime until = SteadyDeadline(wait);
    absl::MutexLock lock(&mu_);
    while (!notified_ && !changed_.WaitUntil(&mu_, until)) {
    }
    return notified_;
  }

 private:
  absl::Mutex mu_;
  SteadyCondVar changed_;
  bool notified_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem

#endif  // TANDEM_BASE_STEADY_WAIT_H_
