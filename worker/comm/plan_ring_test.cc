#include "worker/comm/plan_ring.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include "worker/comm/local_group_for_test.h"

namespace tandem::worker {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr uint64_t kHeader = 32;

GroupShape SmallRing() {
  GroupShape shape;
  shape.slot_bytes = 4096;
  shape.ring_bytes = 4096;
  return shape;
}

std::string Message(uint64_t step, size_t bytes) {
  std::string message(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) message[i] = static_cast<char>(step * 31 + i);
  return message;
}

bool Mentions(const absl::Status& status, absl::string_view text) {
  return status.message().find(text) != absl::string_view::npos;
}

TEST(PlanRingTest, EveryReaderGetsEveryMessageThroughManyWraps) {
  LocalGroup group(4, SmallRing());
  constexpr uint64_t kSteps = 5000;
  group.Run([&](int rank) {
    PlanRing ring(group.member(rank), kLong);
    std::mt19937 sizes(5);
    std::mt19937 own(static_cast<uint32_t>(rank));
    for (uint64_t step = 1; step <= kSteps; ++step) {
      // Every so often the largest message there is, or an empty one.
      const uint32_t pick = sizes() % 50;
      const size_t bytes = pick == 0 ? ring.max_message_bytes() : pick == 1 ? 0 : sizes() % 700;
      if (rank == 0) {
        ASSERT_EQ(ring.Publish(step, Message(step, bytes)), absl::OkStatus());
        continue;
      }
      if (own() % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(own() % 500));
      absl::StatusOr<PlanRing::Received> received = ring.Next(kLong);
      ASSERT_EQ(received.status(), absl::OkStatus());
      ASSERT_EQ(received->kind, PlanRing::Received::kMessage);
      ASSERT_EQ(received->step, step);
      ASSERT_EQ(received->bytes, Message(step, bytes));
    }
  });
}

TEST(PlanRingTest, RefusesWhatCannotBePublishedAndGoesOn) {
  LocalGroup group(2, SmallRing());
  PlanRing writer(group.member(0), kLong);
  PlanRing reader(group.member(1), kLong);
  EXPECT_EQ(writer.max_message_bytes(), 4096 - kHeader);
  absl::Status status = writer.Publish(1, std::string(4096, 'x'));
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_TRUE(Mentions(status, "4096 bytes, the ring takes at most 4064")) << status;
  status = writer.Publish(2, "x");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  ASSERT_EQ(writer.Publish(1, "fine"), absl::OkStatus());
  absl::StatusOr<PlanRing::Received> received = reader.Next(kLong);
  ASSERT_EQ(received.status(), absl::OkStatus());
  EXPECT_EQ(received->bytes, "fine");
}

TEST(PlanRingTest, AReaderThatStandsStillEndsPublishAtTheDeadlineByName) {
  LocalGroup group(3, SmallRing());
  PlanRing writer(group.member(0), absl::Milliseconds(30));
  PlanRing reader(group.member(1), kLong);
  ASSERT_EQ(writer.Publish(1, std::string(4000, 'x')), absl::OkStatus());
  ASSERT_EQ(reader.Next(kLong).status(), absl::OkStatus());
  absl::Status status = writer.Publish(2, std::string(100, 'x'));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(Mentions(status, "rank 2 did not")) << status;
  EXPECT_TRUE(absl::IsAborted(reader.Next(kLong).status()));
}

TEST(PlanRingTest, NextTimesOutAndCanBeCalledAgain) {
  LocalGroup group(2, SmallRing());
  PlanRing reader(group.member(1), kLong);
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<PlanRing::Received> received = reader.Next(absl::Milliseconds(1));
    ASSERT_EQ(received.status(), absl::OkStatus());
    EXPECT_EQ(received->kind, PlanRing::Received::kTimedOut);
  }
}

TEST(PlanRingTest, AWakeFromAnotherThreadEndsAnEndlessWait) {
  LocalGroup group(2, SmallRing());
  PlanRing reader(group.member(1), kLong);
  std::thread waker([&] { reader.WakeSelf(); });
  absl::StatusOr<PlanRing::Received> received = reader.Next(absl::InfiniteDuration());
  waker.join();
  ASSERT_EQ(received.status(), absl::OkStatus());
  EXPECT_EQ(received->kind, PlanRing::Received::kWoken);
}

TEST(PlanRingTest, AWakeGoesBeforeMessagesAndLosesNone) {
  LocalGroup group(2, SmallRing());
  PlanRing writer(group.member(0), kLong);
  PlanRing reader(group.member(1), kLong);
  ASSERT_EQ(writer.Publish(1, "plan"), absl::OkStatus());
  reader.WakeSelf();
  reader.WakeSelf();
  EXPECT_EQ(reader.Next(kLong)->kind, PlanRing::Received::kWoken);
  EXPECT_EQ(reader.Next(kLong)->bytes, "plan");
}

// Each of these pokes into the ring what a broken writer might leave there.
class BrokenRingTest : public testing::Test {
 protected:
  BrokenRingTest() : group_(2, SmallRing()), writer_(group_.member(0), kLong), reader_(group_.member(1), kLong) {
    CHECK_EQ(writer_.Publish(1, "the plan of step one"), absl::OkStatus());
  }

  void Poke(size_t at, uint64_t value) { std::memcpy(group_.memory().ring() + at, &value, sizeof(value)); }

  // Besides its own error, the reader must have ended the group.
  absl::Status Read() {
    absl::Status status = reader_.Next(kLong).status();
    EXPECT_TRUE(absl::IsAborted(writer_.Publish(2, "more")));
    return status;
  }

  LocalGroup group_;
  PlanRing writer_;
  PlanRing reader_;
};

TEST_F(BrokenRingTest, AFlippedBitIsDataLoss) {
  group_.memory().ring()[kHeader + 5] ^= 1;
  absl::Status status = Read();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_TRUE(Mentions(status, "step 1 expected, the message of step 1 fails its checksum")) << status;
}

TEST_F(BrokenRingTest, AnAlteredStepFailsTheChecksum) {
  Poke(0, 2);
  EXPECT_TRUE(absl::IsDataLoss(Read()));
}

TEST_F(BrokenRingTest, AnImpossibleLengthIsDataLoss) {
  Poke(8, ~uint64_t{0} - 8);
  absl::Status status = Read();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_TRUE(Mentions(status, "claims 18446744073709551607 bytes")) << status;
}

TEST_F(BrokenRingTest, ACounterThatRanAwayIsDataLoss) {
  group_.memory().ring_written().store(1 << 20);
  EXPECT_TRUE(absl::IsDataLoss(Read()));
}

TEST_F(BrokenRingTest, AGapNamesBothSteps) {
  // The second message of another group, laid over the first of this one: whole, but not the step that is due.
  LocalGroup other(2, SmallRing());
  PlanRing writer(other.member(0), kLong);
  ASSERT_EQ(writer.Publish(1, ""), absl::OkStatus());
  ASSERT_EQ(writer.Publish(2, "x"), absl::OkStatus());
  std::memcpy(group_.memory().ring(), other.memory().ring() + kHeader, 2 * kHeader);
  absl::Status status = Read();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(Mentions(status, "step 1 expected, step 2 came")) << status;
}

}  // namespace
}  // namespace tandem::worker
