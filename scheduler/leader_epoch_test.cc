#include "scheduler/leader_epoch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace tandem::scheduler {
namespace {

class LeaderEpochTest : public ::testing::Test {
 protected:
  LeaderEpochTest() : dir_(std::string(::testing::TempDir()) + "epoch-" + std::to_string(getpid())) {
    std::filesystem::remove_all(dir_);
  }
  ~LeaderEpochTest() override { std::filesystem::remove_all(dir_); }

  uint64_t Raise() {
    const auto epoch = LeaderEpoch::Raise(dir_);
    EXPECT_TRUE(epoch.ok()) << epoch.status();
    return epoch.ok() ? (*epoch)->value() : 0;
  }
  void Put(const std::string& file, const std::string& text) { std::ofstream(dir_ + "/" + file) << text; }

  const std::string dir_;
};

TEST_F(LeaderEpochTest, EveryStartRaisesIt) {
  EXPECT_EQ(Raise(), 1u);
  EXPECT_EQ(Raise(), 2u);
  EXPECT_EQ(Raise(), 3u);
}

TEST_F(LeaderEpochTest, OneSchedulerAtATime) {
  const auto first = LeaderEpoch::Raise(dir_);
  ASSERT_TRUE(first.ok());
  const auto second = LeaderEpoch::Raise(dir_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find(dir_), absl::string_view::npos) << second.status();
}

TEST_F(LeaderEpochTest, ACrashWhileWritingLeavesTheOldNumber) {
  EXPECT_EQ(Raise(), 1u);
  Put("leader_epoch.next", "");  // created, not written
  EXPECT_EQ(Raise(), 2u);
  Put("leader_epoch.next", "3");  // written in part, not renamed
  EXPECT_EQ(Raise(), 3u);
}

TEST_F(LeaderEpochTest, ACrashAfterTheRenameSkipsANumber) {
  EXPECT_EQ(Raise(), 1u);
  Put("leader_epoch", "2\n");  // raised, never used
  EXPECT_EQ(Raise(), 3u);
}

TEST_F(LeaderEpochTest, DoesNotGuess) {
  Raise();
  for (const char* text : {"", "x", "-1", "1 2", "18446744073709551615", "99999999999999999999"}) {
    Put("leader_epoch", text);
    EXPECT_EQ(LeaderEpoch::Raise(dir_).status().code(), absl::StatusCode::kDataLoss) << "'" << text << "'";
  }
}

}  // namespace
}  // namespace tandem::scheduler
