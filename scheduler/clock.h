// The shell's clock: CLOCK_BOOTTIME, which goes on while the machine sleeps, clamped so that it never falls.
//
// Everybody may read it. The core sees it only as the `now` of a step. A simulator gives its own thread another time.
#ifndef TANDEM_SCHEDULER_CLOCK_H_
#define TANDEM_SCHEDULER_CLOCK_H_

#include <time.h>

#include <atomic>

#include "scheduler/core/types.h"

namespace tandem::scheduler {

// While set, what this thread takes for the time.
inline thread_local const core::Instant* simulated_now = nullptr;

inline core::Instant Now() {
  if (simulated_now != nullptr) return *simulated_now;
  static std::atomic<int64_t> latest{0};
  timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts);
  const int64_t us = static_cast<int64_t>(ts.tv_sec) * 1000000 + ts.tv_nsec / 1000;
  int64_t seen = latest.load(std::memory_order_relaxed);
  while (seen < us && !latest.compare_exchange_weak(seen, us, std::memory_order_relaxed)) {
  }
  return {seen < us ? us : seen};
}

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_CLOCK_H_
