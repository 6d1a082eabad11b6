// How many replicas of each item a host takes, before anybody asks where.
//
// Any eligible devices form a group, whatever it costs, so whether there is room is a matching of ranks to devices. All
// that is wanted, where it fits; else the higher priority first, and among equals the most replicas, the earlier item
// winning ties. Pure.
#ifndef TANDEM_PLACEMENT_PLANNER_HOST_COUNTS_H_
#define TANDEM_PLACEMENT_PLANNER_HOST_COUNTS_H_

#include <vector>

#include "placement/planner/host_candidates.h"

namespace tandem::placement {

// By item.
std::vector<int> ChooseCounts(const HostCandidates& candidates);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_HOST_COUNTS_H_
