// One host by dynamic programming over sets of devices: the best way to give disjoint sets to all replicas, each group
// at its cost by itself.
//
// f[U] is the best way to cut U into groups, always taking the group with U's lowest device. Two passes, because the
// best (max, sum) of a part need not belong to the best whole: first the smallest worst ratio that still places
// everything, then, without the sets above it, the smallest sum. Exact where groups share no edges; where they do, a
// first answer that host_search.h improves on. Pure.
#ifndef TANDEM_PLACEMENT_PLANNER_HOST_TABLES_H_
#define TANDEM_PLACEMENT_PLANNER_HOST_TABLES_H_

#include <vector>

#include "placement/planner/host_candidates.h"
#include "placement/planner/residual.h"

namespace tandem::placement {

// By item, then lowest device. REQUIRES: there are devices for all of `counts`.
std::vector<HostGroup> ComposeGroups(const HostCandidates& candidates, ResidualValue& residual,
                                     const std::vector<int>& counts, Objective objective);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_HOST_TABLES_H_
