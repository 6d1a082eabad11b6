// Groups of real processes, and what happens to the rest when one of them is killed, frozen or gone.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "worker/comm/forked_group_for_test.h"

// A child of a process with sanitizer threads may not start threads of its own.
#if defined(__SANITIZE_THREAD__)
#define SKIP_WHERE_FORK_IS_UNSAFE() GTEST_SKIP() << "ThreadSanitizer does not follow fork()"
#else
#define SKIP_WHERE_FORK_IS_UNSAFE() (void)0
#endif

namespace tandem::worker {
namespace {

using std::chrono::steady_clock;

bool Mentions(const absl::Status& status, absl::string_view text) {
  return status.message().find(text) != absl::string_view::npos;
}

// Sums until something goes wrong.
absl::Status SumForever(GroupChannel& channel) {
  std::vector<float> values(4096);
  for (;;) {
    absl::Status status = channel.communicator().AllReduceSum(absl::MakeSpan(values));
    if (!status.ok()) return status;
  }
}

bool SleepForever(GroupChannel&) {
  for (;;) pause();
}

TEST(GroupProcessesTest, SumsAndPlansTravelBetweenProcesses) {
  SKIP_WHERE_FORK_IS_UNSAFE();
  constexpr int kSteps = 500;
  const auto sum = [](GroupChannel& channel, size_t count) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 1000 + channel.identity().rank);
    if (!channel.communicator().AllReduceSum(absl::MakeSpan(values)).ok()) return false;
    for (size_t i = 0; i < count; ++i) {
      if (values[i] != static_cast<float>(3 * (i % 1000) + 3)) return false;
    }
    return true;
  };
  ForkedGroup group(3, {}, [&](GroupChannel& channel) {
    for (uint64_t step = 1; step <= kSteps; ++step) {
      absl::StatusOr<PlanQueue::Received> plan = channel.plans()->Next(absl::Seconds(30));
      if (!plan.ok() || plan->kind != PlanQueue::Received::kMessage || plan->step != step) return false;
      size_t count;
      std::memcpy(&count, plan->bytes.data(), sizeof(count));
      if (!sum(channel, count)) return false;
    }
    return true;
  });
  for (uint64_t step = 1; step <= kSteps; ++step) {
    const size_t count = step % 50 == 0 ? 300001 : step * 17 % 9000 + 1;
    std::string plan(reinterpret_cast<const char*>(&count), sizeof(count));
    ASSERT_EQ(group.channel().plans()->Publish(step, plan), absl::OkStatus());
    ASSERT_TRUE(sum(group.channel(), count)) << "step " << step;
  }
  EXPECT_TRUE(group.Join(1));
  EXPECT_TRUE(group.Join(2));
}

TEST(GroupProcessesTest, APeerKilledDuringACallEndsItAtOnce) {
  SKIP_WHERE_FORK_IS_UNSAFE();
  ForkedGroup group(2, {}, [](GroupChannel& channel) { return SumForever(channel).ok(); });
  steady_clock::time_point killed;
  std::thread killer([&] {
    killed = steady_clock::now();
    kill(group.pid(1), SIGKILL);
  });
  absl::Status status = SumForever(group.channel());
  const auto ended = steady_clock::now();
  killer.join();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(status.message(), absl::StrCat("peer rank 1 (pid ", group.pid(1), ") exited during all-reduce"));
  EXPECT_LT(ended - killed, std::chrono::seconds(10)) << "and not at the deadline of the call, 30 s";
  EXPECT_FALSE(group.channel().Health().ok());
}

TEST(GroupProcessesTest, APeerKilledBeforeACallEndsItAtOnce) {
  SKIP_WHERE_FORK_IS_UNSAFE();
  ForkedGroup group(2, {}, SleepForever);
  const pid_t pid = group.pid(1);
  EXPECT_EQ(group.channel().Health(), absl::OkStatus());
  kill(pid, SIGKILL);
  group.Join(1);
  // Found even without a call, and before the process id can mean anybody else.
  EXPECT_EQ(group.channel().Health(), absl::UnavailableError(absl::StrCat("peer rank 1 (pid ", pid, ") exited")));
  const auto begin = steady_clock::now();
  absl::Status status = group.channel().communicator().Barrier();
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_EQ(status.message(), absl::StrCat("peer rank 1 (pid ", pid, ") exited during barrier"));
}

TEST(GroupProcessesTest, ARankThatDiesTakesThoseAlongThatWaitForPlans) {
  SKIP_WHERE_FORK_IS_UNSAFE();
  // Both followers wait for a plan. Rank 2 is killed; rank 1 must leave although rank 0 says nothing.
  ForkedGroup group(3, {}, [](GroupChannel& channel) {
    const auto begin = steady_clock::now();
    absl::Status status = channel.plans()->Next(absl::InfiniteDuration()).status();
    return Mentions(status, "peer rank 2") && Mentions(status, "exited during waiting for a plan") &&
           steady_clock::now() - begin < std::chrono::seconds(20);
  });
  kill(group.pid(2), SIGKILL);
  EXPECT_TRUE(group.Join(1));
  absl::Status status = group.channel().plans()->Publish(1, "too late");
  EXPECT_TRUE(absl::IsAborted(status)) << status;
}

TEST(GroupProcessesTest, AFrozenPeerEndsACallAtItsDeadline) {
  SKIP_WHERE_FORK_IS_UNSAFE();
  JoinOptions options;
  options.call_timeout = absl::Milliseconds(200);
  ForkedGroup group(2, options, SleepForever);  // one that sums would find a late parent frozen
  kill(group.pid(1), SIGSTOP);
  absl::Status status = SumForever(group.channel());
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(Mentions(status, absl::StrCat("rank 1 (pid ", group.pid(1), ") did not take part in all-reduce")))
      << status;
}

TEST(GroupProcessesTest, APeerThatDidItsPartAndLeftHarmsNobody) {
  SKIP_WHERE_FORK_IS_UNSAFE();
  ForkedGroup group(2, {}, [](GroupChannel& channel) {
    const std::vector<float> send(10, 4.0f);
    return channel.communicator().Gather(send, {}).ok();
  });
  EXPECT_TRUE(group.Join(1));
  std::vector<float> send(10, 3.0f), receive(20);
  ASSERT_EQ(group.channel().communicator().Gather(send, absl::MakeSpan(receive)), absl::OkStatus());
  EXPECT_EQ(receive[9], 3.0f);
  EXPECT_EQ(receive[10], 4.0f);
}

TEST(GroupProcessesTest, AWaitingRankCostsNoCpu) {
  SKIP_WHERE_FORK_IS_UNSAFE();
  ForkedGroup group(2, {}, [](GroupChannel& channel) {
    absl::StatusOr<PlanQueue::Received> plan = channel.plans()->Next(absl::Seconds(1));
    rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    const int64_t before = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    plan = channel.plans()->Next(absl::Seconds(1));
    getrusage(RUSAGE_THREAD, &usage);
    const int64_t spent = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec - before;
    // 2 % of a core is the limit for a whole process; a wait alone stays far below.
    return plan.ok() && plan->kind == PlanQueue::Received::kTimedOut && spent < 10'000;
  });
  EXPECT_TRUE(group.Join(1));
}

}  // namespace
}  // namespace tandem::worker
