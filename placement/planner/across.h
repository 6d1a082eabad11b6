// Groups over several hosts, for models whose degree no host has devices for: the fewest equal hosts, an equal share of
// ranks on each.
//
// Only where nothing smaller does: the network is ten times slower than the slowest link inside a host.
#ifndef TANDEM_PLACEMENT_PLANNER_ACROSS_H_
#define TANDEM_PLACEMENT_PLANNER_ACROSS_H_

#include <vector>

#include "placement/planner/cluster_solver.h"
#include "placement/planner/demand.h"
#include "placement/planner/parts.h"
#include "placement/planner/plan.h"

namespace tandem::placement {

// Whether enough devices with `large` set, by host, could carry `ranks` in equal shares.
bool CouldSpan(const std::vector<int>& large, int ranks);

// Adds replicas that are missing in `plan` of models whose chosen shape has more ranks than any part has devices.
// `states` is what is free beside the plan's groups; devices that are taken leave it.
void PlaceAcross(const Topology& topology, const Demand& demand, const Parts& parts, const std::vector<int>& choice,
                 std::vector<PartState> states, Plan& plan);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_ACROSS_H_
