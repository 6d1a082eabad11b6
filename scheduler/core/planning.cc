#include "scheduler/core/planning.h"

#include <algorithm>
#include <map>
#include <utility>

#include "placement/planner/planner.h"
#include "scheduler/core/health.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

using placement::Block;
using placement::PathKind;

// Bytes of one element in an all-reduce: CPU ranks sum in fp32, GPU ranks in the model's 16 bits.
constexpr int kCpuElementBytes = 4;
constexpr int kGpuElementBytes = 2;

const placement::Chip* ChipOf(const DeviceSpec& spec) {
  if (spec.kind == "cpu") return &placement::CpuChip();
  const placement::Chip* chip = placement::FindChip(spec.model);
  return chip != nullptr ? chip : &placement::GenericChip();
}

PathKind KindBetween(const DeviceSpec& a, const DeviceSpec& b) {
  const bool near = a.numa_node == b.numa_node || a.numa_node < 0 || b.numa_node < 0;
  if (a.kind == "cpu") return near ? PathKind::kSharedMemory : PathKind::kSys;
  return near ? PathKind::kPhb : PathKind::kSys;
}

// Labels of NVML or another host's tool, where the workers have them; both ends speak, and the worse word counts. What
// a CPU device says of its links is an order and no rate, and the NUMA nodes say the same.
void Label(const ClusterState& state, const std::vector<DeviceId>& ids, placement::Host& host) {
  std::map<absl::string_view, size_t> places;
  for (size_t i = 0; i < ids.size(); ++i) {
    const DeviceSpec& spec = state.At(ids[i]).spec;
    if (spec.kind != "cpu" && !spec.links.empty()) places.emplace(spec.uuid, i);
  }
  for (const auto& [uuid, i] : places) {
    for (const LinkLabel& label : state.At(ids[i]).spec.links) {
      const auto far = places.find(label.peer_uuid);
      if (far == places.end() || far->second == i) continue;
      const bool nvlink = label.kind == PathKind::kNvLink || label.kind == PathKind::kNvSwitch;
      if (nvlink && !(TrustsLinks(state.At(ids[i])) && TrustsLinks(state.At(ids[far->second])))) continue;
      for (placement::Link* link : {&host.link(i, far->second), &host.link(far->second, i)}) {
        const bool second = link->source == placement::Source::kNvml;
        if (second && link->kind >= label.kind) {
          if (link->kind == label.kind) link->nvlinks = std::min(link->nvlinks, label.nvlinks);
          continue;
        }
        link->kind = label.kind;
        link->nvlinks = label.nvlinks;
        link->source = placement::Source::kNvml;
      }
    }
  }
}

bool Contains(const std::vector<GroupId>& groups, GroupId id) {
  return std::find(groups.begin(), groups.end(), id) != groups.end();
}

// What new groups and those that stay may take together. The planner charges a group that stays with the least of its
// shape, and must not find less than it really holds: so that least is given back here, no more. What `gone` groups
// hold counts as free.
Bytes Available(const ClusterState& state, const std::vector<std::string>& kinds, const Device& device,
                const std::vector<GroupId>& gone) {
  Bytes bytes = FreeToUse(state, device);
  for (const GroupId id : device.groups) {
    const Group& group = *state.Find(id);
    if (Contains(gone, id)) {
      for (const Member& member : group.members) {
        if (member.device == device.id) bytes += HeldBy(group, member);
      }
    } else if (group.CountsAsReplica()) {
      const Model& model = state.At(group.model);
      for (const ShardCost& cost : model.spec.costs) {
        const bool same = cost.tensor_parallel == static_cast<int>(group.members.size());
        const bool offered = model.spec.tensor_parallel == 0 || model.spec.tensor_parallel == cost.tensor_parallel;
        if (same && offered) bytes += NeedOf(kinds, model, cost).Least();
      }
    }
  }
  return bytes;
}

placement::Host HostOf(const ClusterState& state, const std::vector<std::string>& kinds,
                       const std::vector<DeviceId>& ids, const std::vector<GroupId>& gone) {
  placement::Host host;
  host.name = state.At(ids.front()).spec.node;
  host.links.resize(ids.size() * ids.size());
  for (const DeviceId id : ids) {
    const Device& device = state.At(id);
    placement::Device& out = host.devices.emplace_back();
    out.name = device.spec.Name();
    out.chip = ChipOf(device.spec);
    out.numa = device.spec.numa_node;
    out.memory_total = device.spec.memory_total.value;
    out.memory_used = out.memory_total - Available(state, kinds, device, gone).value;
    out.memory_used = std::clamp<int64_t>(out.memory_used, 0, out.memory_total);
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    for (size_t j = 0; j < ids.size(); ++j) {
      placement::Link& link = host.links[i * ids.size() + j];
      link.kind = i == j ? PathKind::kSelf : KindBetween(state.At(ids[i]).spec, state.At(ids[j]).spec);
    }
  }
  Label(state, ids, host);
  for (size_t i = 0; i < ids.size(); ++i) {
    for (size_t j = i + 1; j < ids.size(); ++j) {
      const auto known = state.links.find(std::minmax(ids[i], ids[j]));
      if (known == state.links.end() || known->second.bytes_per_second == 0) continue;
      for (placement::Link* link : {&host.link(i, j), &host.link(j, i)}) {
        link->measured = {known->second.bytes_per_second / 1'000'000, known->second.small_ns};
        link->source = placement::Source::kMeasured;
      }
    }
  }
  placement::Complete(host);
  return host;
}

Block BlockOf(const Device& device) {
  if (!device.attached) return Block::kLost;
  if (device.suspect) return Block::kSuspect;
  if (device.drain_wanted || device.parked || device.parking) return Block::kDraining;
  if (device.cordoned || device.Quarantined()) return Block::kCordoned;
  if (!device.leftovers.empty()) return Block::kBusy;
  return Block::kNone;
}

placement::ModelDemand DemandOf(const ClusterState& state, const std::vector<std::string>& kinds, const Model& model,
                                int wanted, std::vector<int>& cost_of_shape) {
  const ModelSpec& spec = model.spec;
  placement::ModelDemand demand;
  demand.name = Name(model);
  demand.replicas = wanted;
  demand.priority = spec.priority;
  demand.memory_share = spec.memory_utilization;
  demand.goal = spec.for_latency ? placement::Goal::kLatency : placement::Goal::kThroughput;
  demand.parameters = spec.parameters;
  if (spec.hidden > 0) demand.workload.hidden = spec.hidden;
  if (spec.layers > 0) demand.workload.layers = spec.layers;
  const bool cpu = !state.devices.empty() && state.devices.front().spec.kind == "cpu";
  demand.workload.element_bytes = cpu ? kCpuElementBytes : kGpuElementBytes;
  for (size_t c = 0; c < spec.costs.size(); ++c) {
    const ShardCost& cost = spec.costs[c];
    if (spec.tensor_parallel != 0 && cost.tensor_parallel != spec.tensor_parallel) continue;
    const Need need = NeedOf(kinds, model, cost);
    placement::Shape shape;
    shape.ranks = cost.tensor_parallel;
    shape.fixed_bytes = need.static_bytes.value;
    shape.kv_min_bytes = need.kv_min.value;
    shape.kv_most_bytes = need.kv_most.value;
    shape.kv_bytes_per_token = PlannedKvPerToken(kinds, cost).value;
    shape.impossible = cost.impossible;
    if (shape.ranks == 1) demand.weight_bytes = cost.static_bytes.value;
    demand.shapes.push_back(std::move(shape));
    cost_of_shape.push_back(static_cast<int>(c));
  }
  return demand;
}

placement::Topology TopologyOf(const ClusterState& state, const Planning& planning, const std::vector<GroupId>& gone) {
  placement::Topology topology;
  for (const std::vector<DeviceId>& ids : planning.devices) {
    topology.hosts.push_back(HostOf(state, planning.kinds, ids, gone));
  }
  return topology;
}

}  // namespace

Need NeedOf(const std::vector<std::string>& kinds, const Model& model, const ShardCost& cost) {
  const ModelSpec& spec = model.spec;
  const int64_t context = (std::max<int64_t>(1, spec.max_model_len) + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
  const Bytes static_bytes = PlannedStatic(kinds, model, cost.tensor_parallel);
  Need need{cost.tensor_parallel, static_bytes, {PlannedKvPerToken(kinds, cost).value * context}, {}};
  need.kv_most = {need.kv_min.value * std::max<int64_t>(1, spec.max_sequences)};
  if (spec.kv_most.value > 0) need.kv_most = std::max(need.kv_min, std::min(need.kv_most, spec.kv_most));
  return need;
}

Bytes ShareOf(const ModelSpec& spec, const DeviceSpec& device) {
  // Of one that an earlier scheduler knew the budget is kept, and no more.
  if (device.memory_total == Bytes{}) return device.memory_budget;
  const double cap = spec.memory_utilization * static_cast<double>(device.memory_total.value);
  return std::min(device.memory_budget, Bytes{static_cast<int64_t>(cap)});
}

bool InTheWay(const ClusterState& state, ModelId model, int degree, const Group& there) {
  return !state.options.sharing || (there.model == model && !there.outdated) ||
         (degree > 1 && there.members.size() > 1);
}

std::optional<Obstacle> ObstacleTo(const ClusterState& state, const Model& model, const Need& need,
                                   const Device& device) {
  const ModelSpec& spec = model.spec;
  if (ShareOf(spec, device.spec) < need.Least()) return Obstacle::kTooSmall;
  switch (BlockOf(device)) {
    case Block::kLost:
      return Obstacle::kLost;
    case Block::kSuspect:
      return Obstacle::kSuspect;
    case Block::kDraining:
      return Obstacle::kDraining;
    case Block::kCordoned:
      return Obstacle::kCordoned;
    case Block::kBusy:
      return Obstacle::kBusy;
    case Block::kNone:
      break;
  }
  if (device.claims > 0) return Obstacle::kBusy;
  if (std::any_of(device.groups.begin(), device.groups.end(),
                  [&](GroupId id) { return InTheWay(state, model.id, need.degree, *state.Find(id)); })) {
    return Obstacle::kBusy;
  }
  if (FreeToUse(state, device) < need.Least()) return Obstacle::kMemoryTaken;
  return std::nullopt;
}

std::vector<std::vector<DeviceId>> HostsOf(const ClusterState& state) {
  std::vector<std::vector<DeviceId>> hosts;
  for (const Node& node : state.nodes) {
    std::map<std::string, std::vector<DeviceId>> kinds;
    for (const DeviceId id : node.devices) kinds[state.At(id).spec.kind].push_back(id);
    for (auto& [kind, ids] : kinds) {
      // More than this of one kind on one node are planned as several hosts: no link between them is used.
      for (size_t from = 0; from < ids.size(); from += placement::kMostDevicesOfHost) {
        const size_t to = std::min(ids.size(), from + placement::kMostDevicesOfHost);
        hosts.emplace_back(ids.begin() + from, ids.begin() + to);
      }
    }
  }
  return hosts;
}

Planning PlanAll(const ClusterState& state, const std::vector<int>& wanted, const WhatIf& what_if) {
  Planning planning;
  planning.devices = HostsOf(state);
  planning.kinds = KindsOf(state);
  planning.topology = TopologyOf(state, planning, what_if.gone);
  std::vector<placement::DeviceRef> refs(state.devices.size());
  placement::Demand& demand = planning.demand;
  demand.sharing = state.options.sharing;
  demand.across_hosts = false;  // ranks meet in shared memory
  for (size_t h = 0; h < planning.devices.size(); ++h) {
    auto& states = demand.states.emplace_back();
    for (size_t d = 0; d < planning.devices[h].size(); ++d) {
      const Device& device = state.At(planning.devices[h][d]);
      refs[device.id.value] = {static_cast<int>(h), static_cast<int>(d)};
      const bool drained =
          std::find(what_if.drained.begin(), what_if.drained.end(), device.id) != what_if.drained.end();
      states.push_back({drained ? Block::kDraining : BlockOf(device), device.spec.memory_budget.value});
    }
  }
  for (const Model& model : state.models) {
    std::vector<int>& costs = planning.cost_of_shape.emplace_back();
    demand.models.push_back(DemandOf(state, planning.kinds, model, wanted[model.id.value], costs));
  }
  for (const auto& [id, group] : state.groups) {
    if (Contains(what_if.gone, id)) continue;
    // Its successor may have several ranks and yet live beside it, until it closes.
    if (state.options.sharing && group.outdated && group.members.size() == 1) continue;
    placement::ExistingGroup existing;
    existing.model = static_cast<int>(group.model.value);
    existing.fixed = true;  // to move one is the business of drains and of rebalance.h: it has requests
    // A successor counts as soon as the group that it takes the place of does not.
    const bool succeeds = group.successor && group.Serves() && Contains(what_if.leaving, state.move.from);
    existing.counts = (group.CountsAsReplica() || succeeds) && !Contains(what_if.leaving, id);
    for (const Member& member : group.members) {
      if (!member.out) existing.devices.push_back(refs[member.device.value]);
    }
    if (!existing.devices.empty()) demand.existing.push_back(std::move(existing));
  }
  planning.plan = placement::MakePlan(planning.topology, demand);
  return planning;
}

bool WouldFit(const ClusterState& state, const Model& model, const std::vector<GroupId>& gone) {
  std::vector<int> wanted;
  for (const Model& other : state.models) {
    const auto given = std::count_if(gone.begin(), gone.end(), [&](GroupId id) {
      const Group& group = *state.Find(id);
      return group.model == other.id && group.CountsAsReplica();
    });
    const int there = state.Replicas(other) - static_cast<int>(given);
    wanted.push_back(other.blocked || given > 0 ? there : std::max(there, state.Wanted(other)));
  }
  const Planning planning = PlanAll(state, wanted, {.gone = gone});
  return std::any_of(planning.plan.groups.begin(), planning.plan.groups.end(), [&](const auto& group) {
    return group.model == static_cast<int>(model.id.value) && group.kept < 0;
  });
}

}  // namespace tandem::core
