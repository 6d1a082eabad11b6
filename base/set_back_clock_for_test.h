// A wall clock that is set back, for one test program: include it in one of its files.
//
// Nobody may set a machine's clock for a test. What the program reads as CLOCK_REALTIME is `wall_clock_ahead` ahead of
// the kernel's, so that the kernel reaches a moment of it that much later: as after a clock that was set back.
#ifndef TANDEM_BASE_SET_BACK_CLOCK_FOR_TEST_H_
#define TANDEM_BASE_SET_BACK_CLOCK_FOR_TEST_H_

#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace tandem {

inline std::atomic<int64_t> wall_clock_ahead{0};  // seconds

// For a test's time.
struct WallClockAhead {
  explicit WallClockAhead(int64_t seconds) { wall_clock_ahead = seconds; }
  ~WallClockAhead() { wall_clock_ahead = 0; }
};

}  // namespace tandem

// The program's own, in place of the library's: absl reads both.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const long failed = syscall(SYS_clock_gettime, clock, now);
  if (failed == 0 && clock == CLOCK_REALTIME) now->tv_sec += tandem::wall_clock_ahead;
  return static_cast<int>(failed);
}
extern "C" int gettimeofday(timeval* now, void*) noexcept {
  timespec time;
  if (clock_gettime(CLOCK_REALTIME, &time) != 0) return -1;
  *now = {time.tv_sec, time.tv_nsec / 1000};
  return 0;
}

#endif  // TANDEM_BASE_SET_BACK_CLOCK_FOR_TEST_H_
