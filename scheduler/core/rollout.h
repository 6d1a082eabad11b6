// How models come, go and change shape while they are served.
//
// Deploy: a name that is new becomes a model of its own. A name that is served gets the new shape in place: its queue,
// its requests and its id stay, so nobody who asked before notices. What its groups are loaded with is their
// `deployment`; those that differ from the new shape, or have another degree where one is given, are outdated: they
// serve on and no longer count as replicas, so that placement looks for new ones.
//   - Make before break: an outdated group closes when a new one is READY in its stead. One of a single rank shares its
//     devices with its successor, and one of several ranks with single ranks, where the ledger has room for both.
//   - Where it has none, and would have if outdated groups were not there, one of them closes first, and the next only
//     when it is gone and that was not enough. Meanwhile requests wait; none is refused.
//   - Where it would not have room even then, everything stays as it is, and the model says what it waits for.
// A closed group ends its requests and dissolves, like any that retires (pool.h). Deploying the old shape again takes
// back what has not gone.
//
// Undeploy: the names are gone at once, what waits is refused as MODEL_NOT_FOUND, what runs ends. No deadline, and no
// protection of the last replica: that is what was asked for. The model's slot stays, so that ids stay dense.
//
// Scale: other numbers of replicas; a surplus retires (pool.h).
#ifndef TANDEM_SCHEDULER_CORE_ROLLOUT_H_
#define TANDEM_SCHEDULER_CORE_ROLLOUT_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// A model under the next free id.
Model& AddModel(ClusterState& state, const ModelSpec& spec);

void Handle(ClusterState& state, const DeployRequested& event, Actions& out);
void Handle(ClusterState& state, const UndeployRequested& event, Actions& out);
void Handle(ClusterState& state, const ScaleRequested& event, Actions& out);

// What a group of the model is loaded with, in one line: its weights first, then all limits that are fixed at loading.
std::string DeploymentOf(const ModelSpec& spec);
// Whether a group that says so holds the model's weights. One that does not say (an older worker) is taken at its name.
bool SameWeights(const std::string& deployment, const ModelSpec& spec);
// Whether the group is not of the model's shape as it is now.
bool IsOutdated(const ClusterState& state, const Group& group);
bool IsRolling(const ClusterState& state, const Model& model);

// Closes outdated groups as above. Runs when state.drains_touched, after placement.
void UpdateRollouts(ClusterState& state, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_ROLLOUT_H_
