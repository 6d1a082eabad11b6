// Improves the spread of replicas over the parts of a cluster: one replica goes to another part, or two change places,
// as long as the whole gets better. Each part is solved as a whole for what it then has.
//
// Hardest first is greedy: a pair takes the only bridge though a model that gains more by it comes later, and a replica
// finds no room that one move would make. The search stops at the first spread that no single step improves, or after a
// number of steps that takes some milliseconds; the bound of the plan says how far that may be from the best. Pure.
#ifndef TANDEM_PLACEMENT_PLANNER_LOCAL_SEARCH_H_
#define TANDEM_PLACEMENT_PLANNER_LOCAL_SEARCH_H_

#include <vector>

#include "placement/planner/part_solver.h"

namespace tandem::placement {

// Replicas by part, then item.
using Spread = std::vector<std::vector<int>>;

// `missing`: by item, replicas that found no part; lowered as they find one.
void ImproveSpread(PartSolver& solver, const std::vector<PartState>& states, const std::vector<ClusterItem>& items,
                   Objective objective, Spread& spread, std::vector<int>& missing);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_LOCAL_SEARCH_H_
