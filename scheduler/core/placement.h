// Which devices form a group for a model: the decision of seconds.
//
// The planner (placement/planner) decides on the cluster as planning.h puts it: replicas that are there stay where they
// are, those that demand wants (pool.h) are placed, `auto` takes the degree that the planner prefers. Here is what
// becomes of the plan: groups that are started, replicas that wait and for what, and requests of models that cannot be
// served.
#ifndef TANDEM_SCHEDULER_CORE_PLACEMENT_H_
#define TANDEM_SCHEDULER_CORE_PLACEMENT_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/planning.h"

namespace tandem::core {

// Starts the groups that are missing, highest model priority first, and decides what becomes of the requests of models
// that cannot be served. Runs when state.place_wanted.
void PlaceMissing(ClusterState& state, Actions& out);

// A replica that was placed, in the report's terms.
PlacementReport DescribePlaced(const ClusterState& state, const Model& model, const Planning& planning,
                               const placement::PlannedGroup& group);
// Why the model's next replica is not placed, as things are.
PlacementReport WhyNot(const ClusterState& state, const Model& model);

// A group of the model failed: the next one is tried after a pause that doubles.
void BackOff(ClusterState& state, Model& model);
// Whether that pause lasts.
bool WaitsToRetry(const ClusterState& state, const Model& model);
// A device or worker is new: what could not be done may be possible now.
void ReconsiderAll(ClusterState& state);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PLACEMENT_H_
