// Many parts: the hardest replicas first, each to the part where it costs least; then every part is solved as a whole
// for what it got, and where that is not the best that could be, replicas move and trade places (local_search.h). Parts
// in equal states share one answer, so the cost grows with what differs and not with the number of hosts. One part
// alone is solved exactly.
#ifndef TANDEM_PLACEMENT_PLANNER_CLUSTER_SOLVER_H_
#define TANDEM_PLACEMENT_PLANNER_CLUSTER_SOLVER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "placement/planner/host_solver.h"
#include "placement/planner/parts.h"

namespace tandem::placement {

// What may be used of a part.
struct PartState {
  DeviceSet free = 0;              // neither blocked nor taken
  std::vector<int64_t> available;  // bytes, per device
  std::vector<int> foreign;        // crossings of groups that stay, per edge of the part's host
};

struct PartSet {
  int part = 0;
  DeviceSet set = 0;
  auto operator<=>(const PartSet&) const = default;
};

struct ClusterItem {
  int ranks = 1;
  int replicas = 1;
  int priority = 0;
  Workload workload;
  int64_t least_bytes = 0;  // a rank's; the device must have them
  int64_t rank_bytes = 0;   // loaded where the group is moved to
  double memory_share = 1;
  std::vector<PartSet> running;  // groups of it that may stay or move
};

struct ClusterGroup {
  int item = 0;
  PartSet where;
};

struct ClusterSolution {
  std::vector<ClusterGroup> groups;  // by item, then part, then lowest device
  std::vector<int> placed;           // by item
  PlanCost cost;
  bool exact = false;
  int64_t bound_ns = 0;          // of cost.sum_ns, for the replicas that were placed
  std::vector<int> candidates;   // by item: sets that were scored
  std::vector<int64_t> best_ns;  // by item: of the best set anywhere, were all free and large enough
};

ClusterSolution SolveCluster(const Parts& parts, const std::vector<PartState>& states,
                             const std::vector<ClusterItem>& items, Objective objective = Objective::kFastest);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_CLUSTER_SOLVER_H_
