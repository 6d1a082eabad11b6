// The cluster in the planner's terms: hosts with their links, as reported and as measured, and what is wanted of them.
//
// A host of the planner is the devices of one kind on one node: a group never mixes CPUs and GPUs, and never spans
// nodes.
#ifndef TANDEM_SCHEDULER_CORE_PLANNING_H_
#define TANDEM_SCHEDULER_CORE_PLANNING_H_

#include <optional>
#include <string>
#include <vector>

#include "placement/planner/plan.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

inline constexpr int64_t kBlockTokens = 16;

// What one rank takes at one degree.
struct Need {
  int degree = 1;
  Bytes static_bytes, kv_min, kv_most;
  Bytes Least() const { return static_bytes + kv_min; }
};
// On that one of the kinds of device (memory_ledger.h) which needs most.
Need NeedOf(const std::vector<std::string>& kinds, const Model& model, const ShardCost& cost);

// The most that this model may ever have of the device.
Bytes ShareOf(const ModelSpec& spec, const DeviceSpec& device);
// Whether a rank of `model` cannot be on one device with a rank of `there`: a device is in one group of several ranks
// at most, and has a model once.
bool InTheWay(const ClusterState& state, ModelId model, int degree, const Group& there);
// Why the device does not do for a rank of the model, whatever its links; nullopt when it does.
std::optional<Obstacle> ObstacleTo(const ClusterState& state, const Model& model, const Need& need,
                                   const Device& device);

// The hosts of the planner: what may form one group.
std::vector<std::vector<DeviceId>> HostsOf(const ClusterState& state);

// One planning of everything: replicas that are there stay, those that are missing are placed.
struct Planning {
  placement::Topology topology;
  placement::Demand demand;                     // models in order of ModelId
  std::vector<std::vector<DeviceId>> devices;   // by host and device
  std::vector<std::vector<int>> cost_of_shape;  // by model and shape: index into ModelSpec::costs
  std::vector<std::string> kinds;               // of device, that there are
  placement::Plan plan;
};
// What the planning is to take for granted.
struct WhatIf {
  std::vector<GroupId> gone;      // these groups were not there
  std::vector<GroupId> leaving;   // these were there and did not count
  std::vector<DeviceId> drained;  // nothing may be placed on these
};
// `wanted`: replicas, by ModelId. Changes nothing.
Planning PlanAll(const ClusterState& state, const std::vector<int>& wanted, const WhatIf& what_if = {});

// Whether the model would get one replica more if these groups were not there.
bool WouldFit(const ClusterState& state, const Model& model, const std::vector<GroupId>& gone);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PLANNING_H_
