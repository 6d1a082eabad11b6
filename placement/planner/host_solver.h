// One host, exactly: which disjoint sets of devices serve which items, for the least cost.
//
// Counts first (host_counts.h), then sets: dynamic programming over sets of devices, each group at its cost by itself
// (host_tables.h). Where groups share edges and are in each other's way, branch and bound from there (host_search.h),
// so that what groups do to each other is in the cost.
#ifndef TANDEM_PLACEMENT_PLANNER_HOST_SOLVER_H_
#define TANDEM_PLACEMENT_PLANNER_HOST_SOLVER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "placement/planner/host_scores.h"
#include "placement/planner/plan.h"
#include "placement/planner/residual.h"

namespace tandem::placement {

// Replicas of one model at one degree.
struct HostItem {
  int ranks = 1;
  int replicas = 1;  // wanted; fewer are placed where they do not fit
  int priority = 0;
  Workload workload;
  int64_t best_ns = 0;             // the least communication time of this shape anywhere; 0 = none
  int64_t rank_bytes = 0;          // what a rank has to load where it is not yet
  std::vector<int64_t> spare;      // per device: bytes beyond the least that it needs; negative = not eligible
  std::vector<DeviceSet> running;  // where groups of it run that may stay or move
};

struct HostGroup {
  int item = 0;
  DeviceSet set = 0;
};

struct HostSolution {
  std::vector<HostGroup> groups;  // by item, then lowest device
  std::vector<int> placed;        // replicas, by item
  PlanCost cost;                  // of these groups; `unplaced` counts what is missing
  int candidates = 0;             // sets that were scored
  bool exact = true;              // nothing is better; else the search was cut off
};

enum class Objective : uint8_t {
  kFastest,     // worst ratio, sum, moved, ..
  kLeastMoved,  // moved, sum, ..
};

// `free`: devices that may be used. `foreign`: crossings of groups that stay, per edge of the host; empty = none.
// Deterministic; equal costs go to the lowest devices.
HostSolution SolveHost(HostScores& scores, ResidualValue& residual, absl::Span<const HostItem> items, DeviceSet free,
                       absl::Span<const int> foreign = {}, Objective objective = Objective::kFastest);

// What the groups cost, edges that they share charged. `groups` may be of any order.
PlanCost CostOf(HostScores& scores, ResidualValue& residual, absl::Span<const HostItem> items,
                absl::Span<const HostGroup> groups, DeviceSet free, absl::Span<const int> foreign);

// True if a is better than b.
bool Better(const PlanCost& a, const PlanCost& b, Objective objective = Objective::kFastest);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_HOST_SOLVER_H_
