// The planner: a topology and a demand in, a plan out. Pure and deterministic: equal input gives an equal plan, byte
// for byte, and relabelling devices relabels it.
//
// One host of up to 16 devices is solved exactly; a larger one is split along the weakest cut, and its parts, like many
// hosts, get the hardest replicas first, equal parts as one, and then a local search. Plan::optimal says whether the
// answer is proven, Plan::bound_ns how far it may be from the best.
//
// Goals, in this order: all demanded replicas, higher priority first; the smallest worst ratio of a group's
// communication time to the best of its shape; the smallest sum; the least moved; the most that stays formable; the
// least memory wasted; the fewest NUMA crossings; the lowest devices.
#ifndef TANDEM_PLACEMENT_PLANNER_PLANNER_H_
#define TANDEM_PLACEMENT_PLANNER_PLANNER_H_

#include "placement/planner/demand.h"
#include "placement/planner/plan.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

// REQUIRES: every host passes Validate; refs and indices are in range.
Plan MakePlan(const Topology& topology, const Demand& demand);

// ": 40.0 GB/s, narrowest at NV2 between 0 and 3, the best that any set of this size has"; empty for one device.
std::string DescribeRing(const PlannedGroup& group);

// One line for people: "A/0 on host0/0,3 over NV2 at 40 GB/s; the best pair here has 40 GB/s".
std::string Describe(const Topology& topology, const Demand& demand, const PlannedGroup& group);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_PLANNER_H_
