// How long a plan takes: single hosts of all sorts with random devices drained, a cluster of 10,000 devices from
// nothing and after the loss of a host, and how the time grows with the cluster.
//
//   build/bench/placement_bench       prints the machine, the command and the figures
//
// Times are of MakePlan as a whole: cutting, scoring, solving, and explaining; nothing is kept between two calls. It is
// the processor's time, since the planner is one thread that never waits, and other programs run beside it.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/machine.h"
#include "placement/planner/planner.h"
#include "placement/planner/test_hosts.h"

namespace tandem::placement {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr double kHostTargetMs = 10;
constexpr double kClusterTargetMs = 1000;

class Random {
 public:
  uint64_t Draw() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_;
  }

 private:
  uint64_t state_ = 88172645463325252u;
};

void SetMemory(Host& host, int64_t bytes) {
  for (Device& device : host.devices) device.memory_total = bytes;
}

ModelDemand Model(int ranks, int replicas, int64_t bytes_per_rank, int hidden = 4096, int layers = 32) {
  ModelDemand model;
  model.name = absl::StrCat("tp", ranks, "x", replicas, "of", hidden);
  model.replicas = replicas;
  model.workload.hidden = hidden;
  model.workload.layers = layers;
  Shape shape;
  shape.ranks = ranks;
  shape.fixed_bytes = bytes_per_rank;
  shape.kv_min_bytes = kGiB;
  shape.kv_bytes_per_token = 1 << 14;
  model.shapes = {shape};
  return model;
}

// `n` devices: the lower half on socket 0, switches of a quarter each, every other pair bridged, the upper half
// smaller.
Host MixedHost(int n) {
  std::vector<std::string> rows(n);
  std::vector<int> numa;
  for (int i = 0; i < n; ++i) {
    numa.push_back(i / (n / 2));
    for (int j = 0; j < n; ++j) {
      const bool bridged = i / 2 == j / 2 && i / 2 % 2 == 0;
      const char* label = i == j                       ? "X"
                          : bridged                    ? "NV4"
                          : i / (n / 4) == j / (n / 4) ? "PIX"
                          : i / (n / 2) == j / (n / 2) ? "NODE"
                                                       : "SYS";
      absl::StrAppend(&rows[i], label, " ");
    }
  }
  Host host = HostOf("A100", std::vector<absl::string_view>(rows.begin(), rows.end()), numa);
  for (int i = 0; i < n; ++i) host.devices[i].memory_total = (i < n / 2 ? 80 : 40) * kGiB;
  return host;
}

double ProcessorMs() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

double PlanMs(const Topology& topology, const Demand& demand, Plan* plan) {
  const double from = ProcessorMs();
  *plan = MakePlan(topology, demand);
  return ProcessorMs() - from;
}

// 200 random masks of drained devices, the first with none.
void MeasureHost(const char* what, const Host& host, const std::vector<ModelDemand>& models) {
  const Topology topology{{host}};
  Demand demand;
  demand.models = models;
  Random random;
  std::vector<double> ms;
  size_t groups = 0;
  int proven = 0;
  for (int run = 0; run < 200; ++run) {
    demand.states.assign(1, std::vector<DeviceState>(host.size()));
    const uint64_t drained = run == 0 ? 0 : random.Draw() & random.Draw();  // one in four
    for (int d = 0; d < host.size(); ++d) {
      if ((drained >> d & 1) != 0) demand.states[0][d].block = Block::kDraining;
    }
    Plan plan;
    ms.push_back(PlanMs(topology, demand, &plan));
    groups += plan.groups.size();
    proven += plan.optimal ? 1 : 0;
  }
  std::sort(ms.begin(), ms.end());
  std::printf(
      "%-28s p50 %8.3f ms, p99 %8.3f ms = %.2f of the target of %.0f ms, most %.3f ms; %.1f groups, %d of 200 proven\n",
      what, ms[ms.size() / 2], ms[ms.size() * 99 / 100], ms[ms.size() * 99 / 100] / kHostTargetMs, kHostTargetMs,
      ms.back(), static_cast<double>(groups) / 200, proven);
}

void MeasureHosts() {
  const std::vector<ModelDemand> few = {Model(2, 2, 20 * kGiB), Model(4, 1, 30 * kGiB), Model(1, 2, 14 * kGiB)};
  const std::vector<ModelDemand> many = {Model(2, 2, 20 * kGiB), Model(4, 1, 30 * kGiB, 8192, 80),
                                         Model(1, 2, 14 * kGiB), Model(2, 1, 50 * kGiB, 8192, 48),
                                         Model(1, 1, 60 * kGiB), Model(4, 1, 35 * kGiB)};
  Host dgx1 = Dgx1V();
  SetMemory(dgx1, 32 * kGiB);
  Host nvswitch = UniformHost("A100", 16, "NV12");
  SetMemory(nvswitch, 80 * kGiB);
  MeasureHost("8 mixed devices, 3 models", MixedHost(8), few);
  MeasureHost("16 mixed devices, 3 models", MixedHost(16), few);
  MeasureHost("16 mixed devices, 6 models", MixedHost(16), many);
  MeasureHost("DGX-1 (8), 3 models", dgx1, {Model(2, 2, 20 * kGiB), Model(4, 1, 28 * kGiB), Model(1, 2, 14 * kGiB)});
  MeasureHost("NVSwitch (16), 6 models", nvswitch, many);
}

// Of every four hosts of eight devices two have an NVSwitch, one has PCIe only, one has bridged pairs.
Topology Cluster(int devices) {
  std::vector<Host> kinds = {UniformHost("H100", 8, "NV18"), UniformHost("H100", 8, "NV18"),
                             UniformHost("A100", 8, "PHB"), EightA100Pcie()};
  Topology topology;
  for (int first = 0; first < devices; first += 8) {
    Host host = kinds[first / 8 % kinds.size()];
    const int h = static_cast<int>(topology.hosts.size());
    host.name = absl::StrCat("host", h);
    for (int d = 0; d < host.size(); ++d) {
      host.devices[d].name = absl::StrCat(host.name, "/", d);
      host.devices[d].memory_total = 80 * kGiB;
    }
    topology.hosts.push_back(std::move(host));
  }
  return topology;
}

// 40 models of 1, 2, 4 and 8 ranks that together want nine tenths of the devices.
Demand FortyModels(int devices) {
  Demand demand;
  for (int m = 0; m < 40; ++m) {
    const int ranks = 1 << (m % 4);
    const int replicas = std::max(1, devices * 9 / 10 / 40 / ranks);
    demand.models.push_back(Model(ranks, replicas, (10 + m) * kGiB, 2048 + 1024 * (m % 7), 24 + 8 * (m % 5)));
    demand.models.back().name = absl::StrCat("m", m);
    demand.models.back().priority = m % 3;
  }
  return demand;
}

void MeasureCluster() {
  const Topology topology = Cluster(10000);
  Demand demand = FortyModels(10000);
  Plan plan;
  const double nothing = PlanMs(topology, demand, &plan);
  std::printf(
      "10,000 devices, 40 models, from nothing:      %8.1f ms = %.2f of the target of %.0f ms; %zu groups, %zu "
      "missing\n",
      nothing, nothing / kClusterTargetMs, kClusterTargetMs, plan.groups.size(), plan.unplaced.size());
  constexpr int kLost = 1;
  demand.states.resize(topology.hosts.size());
  for (size_t h = 0; h < topology.hosts.size(); ++h) demand.states[h].resize(topology.hosts[h].devices.size());
  for (DeviceState& state : demand.states[kLost]) state.block = Block::kLost;
  for (const PlannedGroup& group : plan.groups) {
    if (group.devices.front().host == kLost) continue;
    demand.existing.push_back({.model = group.model, .devices = group.devices});
  }
  const size_t before = plan.groups.size();
  for (const bool fixed : {true, false}) {
    for (ExistingGroup& running : demand.existing) running.fixed = fixed;
    const double ms = PlanMs(topology, demand, &plan);
    const auto stayed = std::count_if(plan.groups.begin(), plan.groups.end(),
                                      [](const PlannedGroup& group) { return group.kept >= 0; });
    std::printf("after the loss of a host, %s %8.1f ms = %.2f of the target of %.0f ms; %td of %zu groups stay\n",
                fixed ? "no group may move:" : "all groups may:   ", ms, ms / kClusterTargetMs, kClusterTargetMs,
                stayed, before);
  }
}

void MeasureGrowth() {
  for (const int devices : {100, 1000, 10000, 100000}) {
    const Topology topology = Cluster(devices);
    const Demand demand = FortyModels(devices);
    Plan plan;
    const double ms = PlanMs(topology, demand, &plan);
    std::vector<bool> placed(demand.models.size(), true);
    for (const UnplacedReplica& replica : plan.unplaced) placed[replica.model] = false;
    std::printf("%6d devices: %td of %zu models placed in full, %zu groups, %.1f ms, %.1f us a device\n", devices,
                std::count(placed.begin(), placed.end(), true), placed.size(), plan.groups.size(), ms,
                ms * 1000 / devices);
  }
}

}  // namespace
}  // namespace tandem::placement

int main(int argc, char** argv) {
  tandem::bench::PrintMachine(argc, argv);
  tandem::placement::MeasureHosts();
  tandem::placement::MeasureCluster();
  tandem::placement::MeasureGrowth();
  return 0;
}
