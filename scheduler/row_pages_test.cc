// Rows in pieces: none is lost or told twice, however the table is cut, while others come and go between two turns.
#include "scheduler/row_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"

namespace tandem::scheduler {
namespace {

constexpr int kDevices = 700;  // several turns

class RowPagesTest : public ::testing::Test {
 protected:
  RowPagesTest() : core_(Options()) {
    Step(core::LeaderStarted{1, kDevices});
    core::ModelSpec spec;
    spec.name = "chat";
    spec.replicas_min = spec.replicas_max = kDevices;
    spec.max_model_len = 4096;
    spec.max_sequences = 1;
    spec.costs = {{1, "", {1 << 20}, {1 << 4}}};
    Step(core::ModelConfigured{spec});
    for (int i = 0; i < kDevices; ++i) Attach(i);
  }

  static core::CoreOptions Options() {
    core::CoreOptions options;
    options.remembered = 300;
    options.waiting_room_requests = 10000;
    options.fence_after = options.suspect_after = core::Seconds(100000);
    return options;
  }
  void Step(const core::Event& event) { core_.Step(now_, event); }
  void Attach(int i) {
    core::WorkerAttached event;
    event.device.node = absl::StrCat("n", i / 8);
    event.device.index = static_cast<uint32_t>(i % 8);
    event.device.memory_total = event.device.memory_budget = event.device.memory_free = {1 << 30};
    event.incarnation = {1, static_cast<uint64_t>(i)};
    Step(event);
  }
  void Arrive(uint64_t number) {
    core::RequestArrived event;
    event.request = {1, number};
    event.model = "chat";
    event.prompt = {10};
    event.max_tokens = core::Tokens{10};
    Step(event);
  }
  void Cancel(uint64_t number) { Step(core::RequestCancelled{{1, number}, core::CancelCause::kClientAsked}); }

  CoreReader Reader() {
    return CoreReader(
        [this](const CoreReader::Query& query) {
          if (between_) between_(++turns_);
          query(core_);
          return true;
        },
        absl::Minutes(1));
  }

  core::Core core_;
  core::Instant now_{1};
  int turns_ = 0;
  std::function<void(int turn)> between_;
};

TEST_F(RowPagesTest, EveryDeviceIsTakenOnceInBoundedTurns) {
  size_t before = 0;
  CoreReader reader = Reader();
  const auto all = Read(reader, TakeDevices);
  ASSERT_TRUE(all);
  std::set<std::string> names;
  for (const DeviceRow& row : all->rows) names.insert(row.name.ToString());
  EXPECT_EQ(names.size(), static_cast<size_t>(kDevices));
  EXPECT_EQ(all->rows.size(), names.size());
  while (true) {
    const auto piece = TakeDevices(core_.state(), before, SIZE_MAX);
    EXPECT_LE(piece.rows.size(), 256u);
    if (!piece.next) break;
    EXPECT_EQ(*piece.next, before + piece.rows.size());
    before = *piece.next;
  }
}

TEST_F(RowPagesTest, RequestsThatEndMeanwhileHideNoOther) {
  for (uint64_t i = 1; i <= 1000; ++i) Arrive(i);
  uint64_t cancelled = 0;
  between_ = [&](int) {
    for (int i = 0; i < 50; ++i) Cancel(++cancelled);
  };
  CoreReader reader = Reader();
  const auto all = Read(reader, TakeRequests);
  ASSERT_TRUE(all);
  std::set<uint64_t> seen;
  for (const RequestRow& row : all->rows) EXPECT_TRUE(seen.insert(row.id.lo).second) << row.id.lo;
  for (uint64_t i = cancelled + 1; i <= 1000; ++i) EXPECT_TRUE(seen.contains(i)) << i << " lived all the while";
}

// The oldest of the ended are forgotten while the list is read: what is left is told once.
TEST_F(RowPagesTest, WhatIsForgottenMeanwhileIsSkipped) {
  for (uint64_t i = 1; i <= 2000; ++i) Arrive(i);
  uint64_t next = 1;
  while (core_.state().ended.size() < 300) Cancel(2001 - next++);
  between_ = [&](int) {
    for (int i = 0; i < 20; ++i) Cancel(2001 - next++);
  };
  CoreReader reader = Reader();
  const auto all = Read(reader, TakeEnded);
  ASSERT_TRUE(all);
  std::set<uint64_t> seen;
  for (const RequestRow& row : all->rows) EXPECT_TRUE(seen.insert(row.id.lo).second) << row.id.lo;
  EXPECT_GE(seen.size(), 280u);
}

TEST_F(RowPagesTest, ACoreThatDoesNotAnswerIsNotWaitedForForEver) {
  CoreReader stuck([](const CoreReader::Query&) { return true; }, absl::Milliseconds(5));
  EXPECT_FALSE(Read(stuck, TakeDevices));
  CoreReader stopped([](const CoreReader::Query&) { return false; }, absl::Minutes(1));
  EXPECT_FALSE(Read(stopped, TakeDevices));
}

}  // namespace
}  // namespace tandem::scheduler
