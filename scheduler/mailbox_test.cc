#include "scheduler/mailbox.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "base/set_back_clock_for_test.h"

namespace tandem::scheduler {
namespace {

TEST(MailboxTest, SaysNoWhenFullAndLeavesTheItemAlone) {
  Mailbox<std::unique_ptr<int>> mailbox(1);
  EXPECT_TRUE(mailbox.TryPost(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(mailbox.TryPost(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, 2);
}

TEST(MailboxTest, TakesWhatIsOwedEvenWhenFull) {
  Mailbox<int> mailbox(1);
  EXPECT_TRUE(mailbox.TryPost(1));
  EXPECT_TRUE(mailbox.PostOwed(2));
  std::vector<int> items;
  EXPECT_TRUE(mailbox.TakeAll(absl::ZeroDuration(), &items));
  EXPECT_EQ(items, (std::vector<int>{1, 2}));
  EXPECT_TRUE(mailbox.TryPost(3)) << "taking made room";
}

TEST(MailboxTest, AnEmptyWaitEndsWithItsPatience) {
  Mailbox<int> mailbox(1);
  std::vector<int> items{7};
  EXPECT_TRUE(mailbox.TakeAll(absl::Milliseconds(1), &items));
  EXPECT_TRUE(items.empty());
}

// Timers of the core run when a wait is over: over an hour they would not.
TEST(MailboxTest, AnEmptyWaitIsNoLongerWhereTheWallClockIsSetBack) {
  const WallClockAhead ahead(3600);
  Mailbox<int> mailbox(1);
  auto waited = std::async(std::launch::async, [&] {
    std::vector<int> items;
    mailbox.TakeAll(absl::Milliseconds(1), &items);
  });
  EXPECT_EQ(waited.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  mailbox.Close();
}

TEST(MailboxTest, ClosedIsEmptiedFirst) {
  Mailbox<int> mailbox(4);
  mailbox.TryPost(1);
  mailbox.Close();
  EXPECT_FALSE(mailbox.TryPost(2));
  EXPECT_FALSE(mailbox.PostOwed(3));
  std::vector<int> items;
  EXPECT_TRUE(mailbox.TakeAll(absl::InfiniteDuration(), &items));
  EXPECT_EQ(items, std::vector<int>{1});
  EXPECT_FALSE(mailbox.TakeAll(absl::InfiniteDuration(), &items));
}

TEST(MailboxTest, ManyWritersLoseNothingAndKeepTheirOrder) {
  constexpr int kWriters = 4, kEach = 20000;
  Mailbox<std::pair<int, int>> mailbox(64);
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&mailbox, w] {
      for (int i = 0; i < kEach; ++i) {
        while (!mailbox.TryPost({w, i})) std::this_thread::yield();
      }
    });
  }
  std::vector<int> next(kWriters, 0);
  std::vector<std::pair<int, int>> items;
  for (int left = kWriters * kEach; left > 0; left -= static_cast<int>(items.size())) {
    ASSERT_TRUE(mailbox.TakeAll(absl::Seconds(30), &items));
    ASSERT_FALSE(items.empty()) << "a wake was lost";
    ASSERT_LE(items.size(), 64u);
    for (const auto& [w, i] : items) ASSERT_EQ(next[w]++, i);
  }
  for (auto& writer : writers) writer.join();
}

}  // namespace
}  // namespace tandem::scheduler
