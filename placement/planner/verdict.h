// Why: what fell out and for which reason, and whether a missing replica can come later or never.
#ifndef TANDEM_PLACEMENT_PLANNER_VERDICT_H_
#define TANDEM_PLACEMENT_PLANNER_VERDICT_H_

#include <string>
#include <vector>

#include "placement/planner/demand.h"
#include "placement/planner/plan.h"

namespace tandem::placement {

// Fills in the reports and, for every unplaced replica, fit and reason. `choice`: the shape of each model.
void Explain(const Topology& topology, const Demand& demand, const std::vector<int>& choice, Plan& plan);

// "14.0 GiB"
std::string GiB(int64_t bytes);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_VERDICT_H_
