// A key names one operation: while it runs, when it has ended, and after a restart.
#include "scheduler/operations.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/intent_keeper.h"
#include "scheduler/store/memory_store.h"

namespace tandem::scheduler {
namespace {

using How = Operations::Opened::How;
using testing::ElementsAre;
using testing::IsEmpty;

class OperationsTest : public testing::Test {
 protected:
  void Restart() {
    operations_ = std::make_unique<Operations>(++leader_, *disk_.Load());
    keeper_ = std::make_unique<IntentKeeper>([this](store::Batch batch) { EXPECT_TRUE(disk_.Commit(batch).ok()); },
                                             operations_.get(), *disk_.Load());
  }
  OperationsTest() { Restart(); }

  Operations::Opened Drain(const std::string& key, const std::string& request = "same") {
    const auto opened = operations_->Open("drain", key, request);
    if (opened.how != How::kFresh) return opened;
    store::Operation row;
    row.devices = {"nodes/box/devices/0"};
    row.on_deadline = "abort";
    row.deadline_us = 5000000;
    store::Batch batch;
    batch.operations.push_back(operations_->Describe(opened.id, row));
    EXPECT_TRUE(disk_.Commit(batch).ok());
    return opened;
  }
  void Follow(core::OperationId id) {
    operations_->Follow(id, [this](const core::ReportDrain& report, const grpc::Status& outcome) {
      heard_.push_back(outcome.ok() ? (report.done ? "done: " : "") + report.message : outcome.error_message());
    });
  }
  void CoreSays(core::OperationId id, core::DrainOutcome outcome, core::Reason refused, const std::string& message) {
    keeper_->Keep(core::KeepDrain{id, outcome, {"nodes/box/devices/0"}, 3, refused, message});
    keeper_->EndOfStep();
    if (outcome == core::DrainOutcome::kRunning) return;
    operations_->Report(core::ReportDrain{id, message, 0, {}, false, true, refused});
  }
  Recollection Recalled() { return Recall(*disk_.Load(), leader_ + 1, 0, absl::FromUnixSeconds(2)); }

  store::MemoryStore disk_;
  uint64_t leader_ = 0;
  std::unique_ptr<Operations> operations_;
  std::unique_ptr<IntentKeeper> keeper_;
  std::vector<std::string> heard_;
};

TEST_F(OperationsTest, ARepeatedCallJoinsTheRunningOne) {
  const auto first = Drain("k");
  Follow(first.id);
  operations_->Report({first.id, "draining 3 of 3"});
  const auto second = Drain("k");
  EXPECT_EQ(second.how, How::kKnown);
  EXPECT_EQ(second.id, first.id);
  EXPECT_THAT(second.devices, ElementsAre("nodes/box/devices/0"));
  Follow(second.id);
  CoreSays(first.id, core::DrainOutcome::kDone, core::Reason::kNone, "drained");
  EXPECT_THAT(heard_, ElementsAre("draining 3 of 3", "draining 3 of 3", "done: drained", "done: drained"));
  EXPECT_EQ(Drain("k", "another").how, How::kOtherRequest);
  EXPECT_EQ(Drain("").how, How::kFresh) << "without a key every call is its own";
}

TEST_F(OperationsTest, HowItEndedIsKnownAfterARestart) {
  const auto good = Drain("good"), bad = Drain("bad"), undone = Drain("undone");
  CoreSays(good.id, core::DrainOutcome::kDone, core::Reason::kNone, "drained");
  CoreSays(bad.id, core::DrainOutcome::kRefused, core::Reason::kWouldLoseLastReplica, "the last of chat");
  CoreSays(undone.id, core::DrainOutcome::kUndone, core::Reason::kCancelled, "undone by undrain");
  Restart();
  for (const char* key : {"good", "bad", "undone"}) Follow(Drain(key).id);
  EXPECT_THAT(heard_, ElementsAre("done: drained", "the last of chat", "undone by undrain"));
  EXPECT_GT(Drain("new").id, undone.id) << "no id is used twice";
}

TEST_F(OperationsTest, WhatCameToNothingFreesItsKeyAndTellsWhoFollows) {
  const auto first = operations_->Open("drain", "k", "same");
  Follow(first.id);
  operations_->Withdraw(first.id, grpc::Status(grpc::StatusCode::UNAVAILABLE, "disk full"));
  EXPECT_THAT(heard_, ElementsAre("disk full"));
  EXPECT_EQ(Drain("k").how, How::kFresh);
}

TEST_F(OperationsTest, AnUnfinishedDrainComesBackWithWhatIsLeftOfItsDeadline) {
  const auto running = Drain("running"), asked = Drain("asked");
  CoreSays(running.id, core::DrainOutcome::kRunning, core::Reason::kNone, "");
  keeper_->Keep(core::KeepDevice{{.node = "box", .cordoned = true, .drained = true, .reason = "new card"}});
  keeper_->EndOfStep();
  const Recollection recalled = Recalled();
  ASSERT_EQ(recalled.started.devices.size(), 1u);
  EXPECT_EQ(recalled.started.devices[0].reason, "new card");
  ASSERT_EQ(recalled.started.drains.size(), 1u);
  const core::KnownDrain& drain = recalled.started.drains[0];
  EXPECT_EQ(drain.operation, running.id);
  EXPECT_EQ(drain.left, core::Seconds(3));
  EXPECT_EQ(drain.on_deadline, core::OnDeadline::kAbort);
  EXPECT_EQ(drain.requests_at_start, 3);
  ASSERT_EQ(recalled.unfinished.size(), 1u) << "what was not decided is asked again";
  const auto& again = std::get<core::DrainRequested>(recalled.unfinished[0].events.at(0));
  EXPECT_EQ(again.operation, asked.id);
  EXPECT_THAT(again.devices, ElementsAre(core::DeviceId{0}));
  EXPECT_EQ(again.deadline, core::Seconds(3));
}

TEST_F(OperationsTest, ACordonThatWasWrittenAndNotDoneIsDoneAgain) {
  keeper_->Keep(core::KeepDevice{{.node = "box"}});
  keeper_->EndOfStep();
  const auto opened = operations_->Open("cordon", "k", "same");
  store::Operation row;
  row.devices = {"nodes/box/devices/0"};
  row.reason = "fan";
  store::Batch batch;
  batch.operations.push_back(operations_->Describe(opened.id, row));
  ASSERT_TRUE(disk_.Commit(batch).ok());
  const Recollection recalled = Recalled();
  ASSERT_EQ(recalled.unfinished.size(), 1u);
  EXPECT_EQ(std::get<core::CordonRequested>(recalled.unfinished[0].events.at(0)).reason, "fan");
  keeper_->Finished(opened.id);
  EXPECT_THAT(Recalled().unfinished, IsEmpty());
}

TEST_F(OperationsTest, AWishKeepsTheTimeThatItIsOf) {
  core::KnownDevice device{.node = "box", .cordoned = true, .reason = "fan"};
  keeper_->Keep(core::KeepDevice{device});
  keeper_->EndOfStep();
  const int64_t since = disk_.Load()->devices[0].since_us;
  EXPECT_GT(since, 0);
  Restart();
  device.uuid = "another card";
  keeper_->Keep(core::KeepDevice{device});
  keeper_->EndOfStep();
  EXPECT_EQ(disk_.Load()->devices[0].since_us, since);
}

}  // namespace
}  // namespace tandem::scheduler
