// The planner as a whole: several hosts, models that compete, `auto`, groups that run, sharing, verdicts.
#include "placement/planner/planner.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "placement/planner/test_hosts.h"

namespace tandem::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr int64_t kGiB = int64_t{1} << 30;

// Two bridges: 0-1 and 2-3.
Host Bridges(absl::string_view chip = "RTX3090") {
  return HostOf(chip, {"X NV4 PHB PHB", "NV4 X PHB PHB", "PHB PHB X NV4", "PHB PHB NV4 X"}, {0, 0, 0, 0});
}

Topology Of(std::vector<Host> hosts, std::vector<int64_t> gib) {
  Topology topology;
  size_t next = 0;
  for (size_t h = 0; h < hosts.size(); ++h) {
    hosts[h].name = absl::StrCat("host", h);
    for (int d = 0; d < hosts[h].size(); ++d) {
      hosts[h].devices[d].name = absl::StrCat("host", h, "/", d);
      hosts[h].devices[d].memory_total = (gib.size() == 1 ? gib[0] : gib[next]) * kGiB;
      ++next;
    }
    topology.hosts.push_back(hosts[h]);
  }
  return topology;
}

ModelDemand Model(const std::string& name, int ranks, int replicas, int64_t gib) {
  ModelDemand model;
  model.name = name;
  model.replicas = replicas;
  Shape shape;
  shape.ranks = ranks;
  shape.fixed_bytes = gib * kGiB / ranks;
  model.shapes = {shape};
  return model;
}

std::vector<std::string> Names(const Topology& topology, const Demand& demand, const Plan& plan) {
  std::vector<std::string> names;
  for (const PlannedGroup& group : plan.groups) {
    std::vector<std::string> devices;
    for (const DeviceRef& ref : group.devices) devices.push_back(topology.hosts[ref.host].devices[ref.device].name);
    std::sort(devices.begin(), devices.end());
    names.push_back(absl::StrCat(demand.models[group.model].name, group.replica, ":", absl::StrJoin(devices, "+")));
  }
  return names;
}

TEST(Planner, PairsFollowTheBridges) {
  const Topology topology = Of({Bridges()}, {24});
  Demand demand;
  demand.models = {Model("A", 2, 2, 20)};
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(Names(topology, demand, plan), ElementsAre("A0:host0/0+host0/1", "A1:host0/2+host0/3"));
  EXPECT_TRUE(plan.optimal);
  EXPECT_EQ(plan.groups[0].ring.mbps, 48000);
  EXPECT_EQ(plan.cost.worst_ratio_permille, 1000);
}

// Two pairs that can only be formed across the sockets, and so are in each other's way.
TEST(Planner, ASearchThatIsCutOffSaysSo) {
  std::vector<std::string> rows(8);
  std::vector<int> numa;
  for (int i = 0; i < 8; ++i) {
    numa.push_back(i / 4);
    for (int j = 0; j < 8; ++j) absl::StrAppend(&rows[i], i == j ? "X" : i / 4 == j / 4 ? "NODE" : "SYS", " ");
  }
  const Topology topology = Of({HostOf("A100", std::vector<absl::string_view>(rows.begin(), rows.end()), numa)}, {80});
  Demand demand;
  demand.sharing = false;
  demand.models = {Model("A", 2, 1, 140), Model("B", 2, 1, 60)};
  demand.states.assign(1, std::vector<DeviceState>(8));
  for (int d = 0; d < 8; ++d) {
    if (d % 4 >= 2) demand.states[0][d].block = Block::kDraining;
    if (d % 4 == 1) demand.states[0][d].usable_bytes = 40 * kGiB;  // too little for A
  }
  Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(Names(topology, demand, plan), ElementsAre("A0:host0/0+host0/4", "B0:host0/1+host0/5"));
  EXPECT_TRUE(plan.optimal);
  demand.most_evaluations = 1;
  plan = MakePlan(topology, demand);
  EXPECT_EQ(plan.groups.size(), 2u);
  EXPECT_FALSE(plan.optimal);
}

TEST(Planner, MemoryOverrulesTheBridge) {
  Host host = HostOf("RTX3090", {"X PHB NV4 PHB", "PHB X PHB NV4", "NV4 PHB X PHB", "PHB NV4 PHB X"}, {0, 0, 0, 0});
  const Topology topology = Of({host}, {24, 24, 48, 48});
  Demand demand;
  demand.models = {Model("A", 2, 1, 32), Model("B", 2, 1, 68)};
  EXPECT_THAT(Names(topology, demand, MakePlan(topology, demand)),
              UnorderedElementsAre("A0:host0/0+host0/1", "B0:host0/2+host0/3"));
}

TEST(Planner, APairIsTakenWhereItBreaksNoQuad) {
  // A DGX-1's cube: eight NV2 pairs are equally fast; those between the quads would break both.
  const Host host =
      HostOf("V100",
             {"X NV1 NV1 NV2 NV2 SYS SYS SYS", "NV1 X NV2 NV1 SYS NV2 SYS SYS", "NV1 NV2 X NV2 SYS SYS NV1 SYS",
              "NV2 NV1 NV2 X SYS SYS SYS NV1", "NV2 SYS SYS SYS X NV1 NV1 NV2", "SYS NV2 SYS SYS NV1 X NV2 NV1",
              "SYS SYS NV1 SYS NV1 NV2 X NV2", "SYS SYS SYS NV1 NV2 NV1 NV2 X"},
             {0, 0, 0, 0, 1, 1, 1, 1});
  const Topology topology = Of({host}, {16});
  Demand demand;
  demand.models = {Model("A", 2, 1, 2)};
  const Plan plan = MakePlan(topology, demand);
  ASSERT_THAT(plan.groups, SizeIs(1));
  EXPECT_EQ(plan.groups[0].ring.mbps, 40000);
  const bool first_half = plan.groups[0].devices[0].device < 4;
  EXPECT_EQ(plan.groups[0].devices[1].device < 4, first_half) << "the other quad stays whole";
}

TEST(Planner, LaterAndNeverAreToldApartWithNumbers) {
  const Topology topology = Of({Bridges()}, {24});
  Demand demand;
  demand.models = {Model("Big", 4, 1, 120), Model("Two", 2, 3, 20)};
  const Plan plan = MakePlan(topology, demand);
  ASSERT_THAT(plan.unplaced, SizeIs(2));
  EXPECT_EQ(plan.unplaced[0].fit, Fit::kNever);
  EXPECT_THAT(plan.unplaced[0].reason, HasSubstr("30.0 GiB"));
  EXPECT_THAT(plan.unplaced[0].reason, HasSubstr("24.0 GiB"));
  EXPECT_EQ(plan.unplaced[1].fit, Fit::kLater);
  EXPECT_EQ(plan.unplaced[1].replica, 2);
  EXPECT_THAT(plan.unplaced[1].reason, HasSubstr("BUSY"));
}

TEST(Planner, DrainedAndUsedDevicesAreLaterNotNever) {
  Topology topology = Of({Bridges()}, {24});
  topology.hosts[0].devices[2].memory_used = 20 * kGiB;
  Demand demand;
  demand.models = {Model("A", 2, 2, 20)};
  demand.states.assign(1, std::vector<DeviceState>(4));
  demand.states[0][0].block = Block::kDraining;
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(Names(topology, demand, plan), ElementsAre("A0:host0/1+host0/3"));
  ASSERT_THAT(plan.unplaced, SizeIs(1));
  EXPECT_EQ(plan.unplaced[0].fit, Fit::kLater);
  EXPECT_EQ(plan.reports[0].excluded[static_cast<int>(Exclusion::kDraining)], 1);
  EXPECT_EQ(plan.reports[0].excluded[static_cast<int>(Exclusion::kMemoryTaken)], 1);
}

TEST(Planner, AutoTakesTheDegreeThatIsNeeded) {
  const Topology topology = Of({Bridges("A40")}, {24, 24, 48, 48});
  Demand demand;
  ModelDemand model = Model("A", 1, 1, 70);
  model.shapes.clear();
  for (const int ranks : {1, 2, 4}) {
    Shape shape;
    shape.ranks = ranks;
    shape.fixed_bytes = 70 * kGiB / ranks;
    model.shapes.push_back(shape);
  }
  demand.models = {model};
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(Names(topology, demand, plan), ElementsAre("A0:host0/2+host0/3"));
  EXPECT_THAT(plan.reports[0].degrees, SizeIs(3));
}

// Two RTX 3090 with a bridge, and a model of 7 billion parameters: two replicas give more, one group answers sooner.
TEST(Planner, AutoFollowsTheGoal) {
  const Topology topology = Of({HostOf("RTX3090", {"X NV4", "NV4 X"}, {0, 0})}, {24});
  ModelDemand model = Model("mistral", 1, 1, 14);
  model.shapes.clear();
  for (const int ranks : {1, 2}) {
    Shape shape;
    shape.ranks = ranks;
    shape.fixed_bytes = 14 * kGiB / ranks;
    shape.kv_bytes_per_token = (128 << 10) / ranks;
    model.shapes.push_back(shape);
  }
  model.weight_bytes = 14 * kGiB;
  model.parameters = 7'000'000'000;
  model.workload.prompt_tokens = 256;  // short: KV does not bind
  model.workload.output_tokens = 128;
  Demand demand;
  demand.models = {model};
  Plan plan = MakePlan(topology, demand);
  ASSERT_THAT(plan.groups, SizeIs(1));
  EXPECT_THAT(plan.groups[0].devices, SizeIs(1));
  EXPECT_THAT(plan.reports[0].choice, HasSubstr("2 replicas of TP=1"));
  demand.models[0].goal = Goal::kLatency;
  plan = MakePlan(topology, demand);
  ASSERT_THAT(plan.groups, SizeIs(1));
  EXPECT_THAT(plan.groups[0].devices, SizeIs(2));
}

TEST(Planner, WhatRunsStaysAndAMissingReplicaGoesElsewhere) {
  const Topology topology = Of({Bridges()}, {24});
  Demand demand;
  demand.models = {Model("A", 2, 2, 20)};
  demand.existing = {{0, {{0, 2}, {0, 3}}}};
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(Names(topology, demand, plan), ElementsAre("A0:host0/0+host0/1", "A1:host0/2+host0/3"));
  EXPECT_EQ(plan.groups[1].kept, 0);
  EXPECT_EQ(plan.cost.moved_bytes, 20 * kGiB) << "only the new one is loaded";
}

TEST(Planner, AGroupIsMovedOnlyForAStatedGainOrToPlaceAnother) {
  const Topology topology = Of({Bridges()}, {24});
  Demand demand;
  demand.models = {Model("A", 2, 1, 20)};
  demand.existing = {{0, {{0, 0}, {0, 2}}}};  // across the bridges
  demand.least_gain_permille = 900;
  EXPECT_THAT(Names(topology, demand, MakePlan(topology, demand)), ElementsAre("A0:host0/0+host0/2"));
  demand.least_gain_permille = 100;
  EXPECT_THAT(Names(topology, demand, MakePlan(topology, demand)), ElementsAre("A0:host0/0+host0/1"));
  demand.existing[0].fixed = true;
  EXPECT_THAT(Names(topology, demand, MakePlan(topology, demand)), ElementsAre("A0:host0/0+host0/2"));
}

TEST(Planner, SingleRanksShareDevicesUnderTheLedgerWhenNoneIsFree) {
  const Topology topology = Of({Bridges()}, {24});
  Demand demand;
  demand.models = {Model("LLM", 2, 2, 32), Model("embed", 1, 3, 1)};
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(plan.unplaced, IsEmpty());
  std::set<DeviceRef> of_embed;
  for (const PlannedGroup& group : plan.groups) {
    if (group.model == 1) of_embed.insert(group.devices[0]);
  }
  EXPECT_THAT(of_embed, SizeIs(3)) << "no two of one model on a device";
  for (const PlannedGroup& group : plan.groups) {
    if (group.model != 0) continue;
    EXPECT_LE(group.kv_bytes, 8 * kGiB);
  }
  demand.models[1] = Model("embed", 1, 1, 9);
  EXPECT_THAT(MakePlan(topology, demand).unplaced, SizeIs(1)) << "8 GiB are left beside an LLM's rank";
}

TEST(Planner, HigherPriorityWins) {
  const Topology topology = Of({Bridges()}, {24});
  Demand demand;
  demand.models = {Model("low", 4, 1, 20), Model("high", 2, 1, 20)};
  demand.models[1].priority = 5;
  EXPECT_THAT(Names(topology, demand, MakePlan(topology, demand)), ElementsAre("high0:host0/0+host0/1"));
}

TEST(Planner, ManyHostsFillTheUsedOneFirstAndNeverSpanTwo) {
  std::vector<Host> hosts(5, Bridges());
  const Topology topology = Of(hosts, {24});
  Demand demand;
  demand.models = {Model("A", 2, 3, 20), Model("B", 4, 2, 20), Model("C", 1, 1, 20)};
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(plan.unplaced, IsEmpty());
  std::set<int> hosts_used;
  for (const PlannedGroup& group : plan.groups) {
    for (const DeviceRef& ref : group.devices) EXPECT_EQ(ref.host, group.devices.front().host);
    hosts_used.insert(group.devices.front().host);
    if (group.model != 0) continue;
    EXPECT_EQ(group.ring.mbps, 48000);
  }
  EXPECT_LE(hosts_used.size(), 4u);
  EXPECT_LE(plan.bound_ns, plan.cost.sum_ns);
}

TEST(Planner, ADegreeThatNoHostHasSpansEqualHosts) {
  std::vector<Host> hosts(3, Bridges());
  for (Host& host : hosts) host.network_mbps = 12'500;
  const Topology topology = Of(hosts, {24});
  Demand demand;
  demand.models = {Model("A", 8, 1, 80), Model("B", 2, 1, 20)};
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(plan.unplaced, IsEmpty());
  ASSERT_THAT(plan.groups, SizeIs(2));
  std::map<int, int> of_host;
  for (const DeviceRef& ref : plan.groups[0].devices) ++of_host[ref.host];
  EXPECT_THAT(of_host, SizeIs(2));
  for (const auto& [host, devices] : of_host) EXPECT_EQ(devices, 4);
  EXPECT_EQ(plan.groups[0].ring.mbps, 12'500);
  EXPECT_THAT(plan.groups[0].ring.bottleneck, HasSubstr("network"));
  EXPECT_GT(plan.groups[0].communication_ns, 0);
  demand.across_hosts = false;
  const Plan within = MakePlan(topology, demand);
  ASSERT_THAT(within.unplaced, SizeIs(1));
  EXPECT_EQ(within.unplaced[0].fit, Fit::kNever);
}

TEST(Planner, EqualInputGivesAnEqualPlan) {
  std::vector<Host> hosts(3, Bridges());
  const Topology topology = Of(hosts, {24});
  Demand demand;
  demand.models = {Model("A", 2, 4, 20), Model("B", 1, 2, 10)};
  const auto first = Names(topology, demand, MakePlan(topology, demand));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Names(topology, demand, MakePlan(topology, demand)), first);
}

TEST(Planner, MoreThanSixteenDevicesAreCutAlongTheSockets) {
  std::vector<std::string> rows(24);
  std::vector<int> numa;
  for (int i = 0; i < 24; ++i) {
    numa.push_back(i / 12);
    for (int j = 0; j < 24; ++j) absl::StrAppend(&rows[i], i == j ? "X" : i / 12 == j / 12 ? "PHB" : "SYS", " ");
  }
  const Topology topology = Of({HostOf("A100", {rows.begin(), rows.end()}, numa)}, {40});
  Demand demand;
  demand.models = {Model("A", 4, 6, 20)};
  const Plan plan = MakePlan(topology, demand);
  EXPECT_THAT(plan.unplaced, IsEmpty());
  for (const PlannedGroup& group : plan.groups) {
    for (const DeviceRef& ref : group.devices) EXPECT_EQ(ref.device / 12, group.devices.front().device / 12);
  }
}

TEST(Planner, NothingToPlaceAndNothingToPlaceItOn) {
  Demand demand;
  EXPECT_THAT(MakePlan(Topology(), demand).groups, IsEmpty());
  demand.models = {Model("A", 1, 1, 1)};
  const Plan plan = MakePlan(Topology(), demand);
  ASSERT_THAT(plan.unplaced, SizeIs(1));
  EXPECT_EQ(plan.unplaced[0].fit, Fit::kNever);
}

}  // namespace
}  // namespace tandem::placement
