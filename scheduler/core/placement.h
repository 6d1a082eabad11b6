// Which devices form a group for a model: the decision of seconds.
//
// First version: filter, then take. A device falls out when it is too small by the formula, away, cordoned, draining,
// busy, or short of free memory; of the rest, the lowest ids of the first node (in order of first sight) that has
// enough. A group never spans nodes. `auto` takes the smallest degree that can be placed. Replicas: replicas_min are
// wanted; more, up to replicas_max, is the autoscaler's business and not done here.
#ifndef TANDEM_SCHEDULER_CORE_PLACEMENT_H_
#define TANDEM_SCHEDULER_CORE_PLACEMENT_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// One replica of the model on what is free now. Changes nothing.
PlacementReport Place(const ClusterState& state, const Model& model);

// Starts the groups that are missing, highest model priority first, and decides what becomes of the requests of models
// that cannot be served. Runs when state.place_wanted.
void PlaceMissing(ClusterState& state, Actions& out);

// A group of the model failed: the next one is tried after a pause that doubles.
void BackOff(ClusterState& state, Model& model);
// A device or worker is new: what could not be done may be possible now.
void ReconsiderAll(ClusterState& state);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PLACEMENT_H_
