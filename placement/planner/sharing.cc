#include "placement/planner/sharing.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

namespace tandem::placement {
namespace {

// The least that everyone on a device needs.
using Ledger = std::map<DeviceRef, int64_t>;

int64_t LeastOf(const Demand& demand, int model, int shape) {
  return shape < 0 ? 0 : demand.models[model].shapes[shape].Least();
}

Ledger LedgerOf(const Demand& demand, const Plan& plan) {
  Ledger ledger;
  for (const PlannedGroup& group : plan.groups) {
    for (const DeviceRef& ref : group.devices) ledger[ref] += LeastOf(demand, group.model, group.shape);
  }
  return ledger;
}

}  // namespace

Block BlockOf(const Demand& demand, DeviceRef device) {
  return demand.states.empty() ? Block::kNone : demand.states[device.host][device.device].block;
}

int64_t UsableBytes(const Topology& topology, const Demand& demand, DeviceRef device) {
  const int64_t total = topology.hosts[device.host].devices[device.device].memory_total;
  if (demand.states.empty()) return total;
  const int64_t usable = demand.states[device.host][device.device].usable_bytes;
  return usable < 0 ? total : std::min(usable, total);
}

int64_t AvailableBytes(const Topology& topology, const Demand& demand, DeviceRef device) {
  const Device& facts = topology.hosts[device.host].devices[device.device];
  return std::min(UsableBytes(topology, demand, device), facts.memory_total - facts.memory_used);
}

int64_t CapBytes(const Topology& topology, const Demand& demand, int model, DeviceRef device) {
  const int64_t total = topology.hosts[device.host].devices[device.device].memory_total;
  const auto share = static_cast<int64_t>(demand.models[model].memory_share * static_cast<double>(total));
  return std::min(UsableBytes(topology, demand, device), share);
}

void PlaceShared(const Topology& topology, const Demand& demand, const std::vector<int>& choice, Plan& plan) {
  Ledger ledger = LedgerOf(demand, plan);
  std::vector<int> order;
  for (size_t m = 0; m < demand.models.size(); ++m) {
    if (choice[m] >= 0 && demand.models[m].shapes[choice[m]].ranks == 1) order.push_back(static_cast<int>(m));
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    const auto first = [&](int m) {
      return std::tuple(-demand.models[m].priority, -demand.models[m].shapes[choice[m]].Least());
    };
    return first(a) < first(b);
  });
  for (const int m : order) {
    const int64_t least = LeastOf(demand, m, choice[m]);
    std::vector<DeviceRef> mine;
    for (const PlannedGroup& group : plan.groups) {
      if (group.model == m) mine.push_back(group.devices.front());
    }
    while (static_cast<int>(mine.size()) < demand.models[m].replicas) {
      int64_t most = -1;
      int candidates = 0;
      DeviceRef best;
      for (int h = 0; h < static_cast<int>(topology.hosts.size()); ++h) {
        for (int d = 0; d < topology.hosts[h].size(); ++d) {
          const DeviceRef ref{h, d};
          if (BlockOf(demand, ref) != Block::kNone || std::find(mine.begin(), mine.end(), ref) != mine.end()) continue;
          const auto taken = ledger.find(ref);
          const int64_t used = taken == ledger.end() ? 0 : taken->second;
          const int64_t left = AvailableBytes(topology, demand, ref) - used - least;
          if (left < 0 || CapBytes(topology, demand, m, ref) < least) continue;
          ++candidates;
          if (left <= most) continue;
          most = left;
          best = ref;
        }
      }
      plan.reports[m].candidates = std::max(plan.reports[m].candidates, candidates);
      if (most < 0) break;
      mine.push_back(best);
      ledger[best] += least;
      PlannedGroup group;
      group.model = m;
      group.shape = choice[m];
      group.devices = {best};
      plan.groups.push_back(std::move(group));
    }
  }
}

void AssignKv(const Topology& topology, const Demand& demand, Plan& plan) {
  const Ledger ledger = LedgerOf(demand, plan);
  std::map<DeviceRef, int64_t> spare;
  for (const auto& [ref, least] : ledger) spare[ref] = AvailableBytes(topology, demand, ref) - least;
  // What is left of a shared device goes to its group of several ranks, then to the others as they stand.
  std::vector<size_t> order(plan.groups.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return plan.groups[a].devices.size() > plan.groups[b].devices.size(); });
  for (const size_t g : order) {
    PlannedGroup& group = plan.groups[g];
    if (group.shape < 0) continue;
    const Shape& shape = demand.models[group.model].shapes[group.shape];
    int64_t more = INT64_MAX;
    for (const DeviceRef& ref : group.devices) {
      more = std::min({more, spare[ref], CapBytes(topology, demand, group.model, ref) - shape.Least()});
    }
    more = std::max<int64_t>(0, more);
    group.kv_bytes = shape.kv_min_bytes + more;
    if (shape.kv_most_bytes > 0)
      group.kv_bytes = std::min(group.kv_bytes, std::max(shape.kv_min_bytes, shape.kv_most_bytes));
    for (const DeviceRef& ref : group.devices) spare[ref] -= group.kv_bytes - shape.kv_min_bytes;
  }
}

}  // namespace tandem::placement
