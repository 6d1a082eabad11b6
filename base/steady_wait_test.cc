#include "base/steady_wait.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <thread>

#include "absl/time/clock.h"
#include "base/set_back_clock_for_test.h"

namespace tandem {
namespace {

constexpr int64_t kHour = 3600;

// Whether `wait` comes back within what a busy machine takes; if not, `wake` has to make it.
bool ComesBack(const std::function<void()>& wait, const std::function<void()>& wake) {
  std::promise<void> back;
  std::thread waiting([&] {
    wait();
    back.set_value();
  });
  const bool came = back.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  if (!came) wake();
  waiting.join();
  return came;
}

TEST(SteadyWaitTest, TheClockOfThisTestCanBeAhead) {
  const absl::Time before = absl::Now();
  const WallClockAhead ahead(kHour);
  EXPECT_GT(absl::Now() - before, absl::Minutes(59));
}

TEST(SteadyWaitTest, AClockThatIsSetBackKeepsNobodyWaiting) {
  const WallClockAhead ahead(kHour);
  absl::Mutex mu;
  SteadyCondVar changed;
  const auto wait = [&] {
    absl::MutexLock lock(&mu);
    while (!changed.WaitFor(&mu, absl::Milliseconds(10))) {
    }
  };
  EXPECT_TRUE(ComesBack(wait, [&] { changed.SignalAll(); }));
  SteadyNotification notified;
  const auto wait_for_it = [&] { EXPECT_FALSE(notified.WaitFor(absl::Milliseconds(10))); };
  EXPECT_TRUE(ComesBack(wait_for_it, [&] { notified.Notify(); }));
}

TEST(SteadyWaitTest, ASignalEndsAWaitForEver) {
  SteadyNotification notified;
  std::thread notifies([&] { notified.Notify(); });
  EXPECT_TRUE(notified.WaitFor(absl::InfiniteDuration()));
  EXPECT_TRUE(notified.WaitFor(absl::ZeroDuration())) << "it stays so";
  notifies.join();
}

TEST(SteadyWaitTest, TheTimeOfAWaitIsOverWhenItSaysSo) {
  absl::Mutex mu;
  SteadyCondVar changed;
  const SteadyTime until = SteadyDeadline(absl::Milliseconds(5));
  absl::MutexLock lock(&mu);
  while (!changed.WaitUntil(&mu, until)) {
  }
  EXPECT_GE(SteadySince(until), absl::ZeroDuration());
}

}  // namespace
}  // namespace tandem
