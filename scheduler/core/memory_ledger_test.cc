#include "scheduler/core/memory_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/core/dump.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

// A model of 1000 MiB on rank 0 and 990 MiB on others, and two devices of different kinds.
class MemoryLedgerTest : public ::testing::Test {
 protected:
  MemoryLedgerTest() {
    Model& model = state_.models.emplace_back();
    model.spec.name = "chat";
    ShardCost cost{2, "", {1000 * kMiB}, {1024}, {990 * kMiB}};
    model.spec.costs = {{1, "", {2000 * kMiB}, {2048}, {}}, cost};
    for (const char* kind : {"cpu", "cuda"}) {
      Device& device = state_.devices.emplace_back();
      device.id = {static_cast<uint32_t>(state_.devices.size() - 1)};
      device.spec.node = "a";
      device.spec.index = device.id.value;
      device.spec.kind = kind;
      device.spec.memory_total = {8000 * kMiB};
      device.spec.memory_budget = {7000 * kMiB};
      device.memory_free = {8000 * kMiB};
      device.state = DeviceState::kActive;
    }
  }

  Model& model() { return state_.models.front(); }

  // A group of two ranks on the first device's kind whose measurements exceed the formula by these.
  void Load(uint64_t id, int64_t rank0_mib, int64_t rank1_mib) {
    Group group;
    group.id = {id};
    group.members.resize(2);
    for (int rank = 0; rank < 2; ++rank) {
      group.members[rank].estimated = EstimatedStatic(model().spec, 2, rank, "cpu");
    }
    const int64_t more[] = {rank0_mib, rank1_mib};
    for (int rank = 0; rank < 2; ++rank) {
      Member& member = group.members[rank];
      TakeMeasurement(state_, group, member, member.estimated + Bytes{more[rank] * kMiB});
    }
  }

  ClusterState state_;
};

TEST_F(MemoryLedgerTest, AKindOfDeviceMayHaveAFormulaOfItsOwn) {
  model().spec.costs[1].kinds = {{"cuda", {1400 * kMiB}, {1350 * kMiB}, {512}}};
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cpu").value, 1000 * kMiB);
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cuda").value, 1400 * kMiB);
  EXPECT_EQ(PlannedStatic(model(), 2, 1, "cuda").value, 1350 * kMiB);
  EXPECT_EQ(PlannedStatic(KindsOf(state_), model(), 2).value, 1400 * kMiB) << "a plan may choose either";
  EXPECT_EQ(PlannedKvPerToken(KindsOf(state_), model().spec.costs[1]).value, 1024);
  state_.devices.pop_front();
  EXPECT_EQ(PlannedKvPerToken(KindsOf(state_), model().spec.costs[1]).value, 512);
}

TEST_F(MemoryLedgerTest, BeforeAnyLoadTheFormulaOfTheRankCounts) {
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cpu").value, 1000 * kMiB);
  EXPECT_EQ(PlannedStatic(model(), 2, 1, "cpu").value, 990 * kMiB);
  EXPECT_EQ(PlannedStatic(model(), 1, 1, "cpu").value, 2000 * kMiB) << "no figure of its own: as rank 0";
  EXPECT_EQ(PlannedStatic(KindsOf(state_), model(), 2).value, 1000 * kMiB);
  EXPECT_EQ(PlannedStatic(model(), 16, 0, "cpu").value, 0) << "a degree that the model has not";
}

TEST_F(MemoryLedgerTest, TheWorstRankOfALoadIsAddedToTheNextPlan) {
  Load(1, 20, 35);
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cpu").value, 1035 * kMiB);
  EXPECT_EQ(PlannedStatic(model(), 2, 1, "cpu").value, 1025 * kMiB);
  EXPECT_EQ(PlannedStatic(model(), 1, 0, "cpu").value, 2000 * kMiB) << "another degree taught nothing";
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cuda").value, 1000 * kMiB) << "nor for another kind of device";
  EXPECT_EQ(PlannedStatic(KindsOf(state_), model(), 2).value, 1035 * kMiB);
}

TEST_F(MemoryLedgerTest, ALaterLoadReplacesWhatAnEarlierOneTaught) {
  Load(1, 100, 100);
  Load(2, 10, 5);
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cpu").value, 1010 * kMiB);
  EXPECT_EQ(model().learned.size(), 1u);
}

TEST_F(MemoryLedgerTest, LessThanTheFormulaCountsTooButNeverBelowZero) {
  Load(1, -100, -200);
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cpu").value, 900 * kMiB);
  EXPECT_EQ(PlannedStatic(KindsOf(state_), model(), 2).value, 1000 * kMiB)
      << "a device of the other kind may be chosen";
  Load(2, -999, -980);
  model().spec.costs[1].static_bytes = {10 * kMiB};
  EXPECT_EQ(PlannedStatic(model(), 2, 0, "cpu").value, 0);
}

TEST_F(MemoryLedgerTest, WhatWasLearnedOutlivesADump) {
  state_.models.clear();
  ClusterState state;
  Model& model = state.models.emplace_back();
  model.spec.name = "chat";
  model.learned = {{2, "cpu", {7}, {1000}, {1018}}};
  const auto loaded = LoadState(DumpState(state));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->models.front().learned.size(), 1u);
  EXPECT_EQ(loaded->models.front().learned.front().measured.value, 1018);
  EXPECT_EQ(DumpState(*loaded), DumpState(state));
}

TEST_F(MemoryLedgerTest, WhatIsNeitherFreeNorOursIsForeign) {
  Device& device = state_.devices[1];
  device.memory_process = {1500 * kMiB};
  device.memory_free = {3300 * kMiB};
  EXPECT_EQ(ForeignMemory(device).value, 3200 * kMiB);
  EXPECT_EQ(FreeToUse(state_, device).value, 2300 * kMiB) << "the utilisation keeps 1000 MiB free";
  EXPECT_EQ(ShortOfMemory(state_, device, {4096 * kMiB}),
            "nodes/a/devices/1: 2.2 GiB free, needs 4.0 GiB; 3.1 GiB of nodes/a/devices/1 are used by other processes");
  device.memory_process = {6000 * kMiB};
  EXPECT_EQ(ForeignMemory(device).value, 0) << "two looks at different times may add up to more than there is";
  device.memory_process = {};
  device.state = DeviceState::kLost;
  EXPECT_EQ(ForeignMemory(device).value, 0) << "nobody is there to say";
}

TEST_F(MemoryLedgerTest, ALoadIsAsFarAsItsSlowestRank) {
  Group group;
  group.members.resize(2);
  for (int rank = 0; rank < 2; ++rank) {
    Member& member = group.members[rank];
    member.device = {static_cast<uint32_t>(rank)};
    member.planned = {1000 * kMiB};
    member.held_before = {50 * kMiB};
    state_.devices[rank].memory_process = {(rank == 0 ? 670 : 950) * kMiB};
  }
  EXPECT_EQ(LoadedPercent(state_, group), 62);
  group.members[0].loaded = true;
  EXPECT_EQ(LoadedPercent(state_, group), 90);
  state_.devices[1].memory_process = {5000 * kMiB};
  EXPECT_EQ(LoadedPercent(state_, group), 99) << "it has not said that it is done";
  state_.devices[1].memory_process = {};
  EXPECT_EQ(LoadedPercent(state_, group), 0);
  group.members[1].loaded = true;
  EXPECT_EQ(LoadedPercent(state_, group), 100);
  group.members[1] = {};
  EXPECT_EQ(LoadedPercent(state_, group), -1) << "without a formula nobody knows";
}

TEST_F(MemoryLedgerTest, DifferencesAreShownInHundredths) {
  EXPECT_EQ(EstimateAgainstMeasurement({1000 * kMiB}, {1018 * kMiB}),
            "1000.00 MiB by the formula, 1018.00 MiB measured (+1.8 %)");
  EXPECT_EQ(EstimateAgainstMeasurement({2048 * kMiB}, {}), "2.00 GiB by the formula, not measured");
  EXPECT_THAT(EstimateAgainstMeasurement({}, {kMiB}), HasSubstr("no formula"));
  EXPECT_EQ(DescribeLearned({2, "cpu", {7}, {1126 * kMiB}, {1147 * kMiB}}),
            "tp=2: formula 1.10 GiB, measured 1.12 GiB on cpu (+1.9 %), planned with 1.12 GiB");
}

}  // namespace
}  // namespace tandem::core
