// Moves: a group that runs goes to devices where its model's steps take markedly less time, make before break.
//
// Placement (placement.h) decides when a replica is missing and never touches what runs. What it decided may be
// surpassed later: a repaired card closes an NVLink pair, a drain ends, a link is measured. So when the cluster has
// been calm for move_calm after such a change, the models are looked at one by one. Of each the replica whose step
// takes longest is planned anew among what is free, with the same planner; its step on the devices found, by the step
// model (placement/planner/step_model.h), is set against the step that it has. The replica moves if that saves at least
// the share move_gain of the step, and more than measurements waver by.
//
// 1. A successor forms and loads on the free devices. It does not count as a replica (Group::successor), and the group
//    serves on. A successor that fails, or stands in the way of a replica that waits for room, is given up; nothing
//    else has happened.
// 2. When it is READY they change places in one step: the successor counts, the group retires (pool.h) and ends its
//    requests. What still runs after drain_deadline migrates (migration.h). No request is aborted for a move.
//
// Only what is free is used: where a move would need the devices of the group itself, or of another one, it is not
// made. Only one move at a time in the whole installation. Never while something waits for room, forms, loads or
// leaves. A model that moved, or failed to, rests for move_rest, twice as long with every move, up to move_rest_most:
// whatever measurements do, a group does not go back and forth.
//
// A round plans once per model and look, and after a round that finds nothing no timer is armed before something
// changes.
#ifndef TANDEM_SCHEDULER_CORE_REBALANCE_H_
#define TANDEM_SCHEDULER_CORE_REBALANCE_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// Something changed that may make a better place: a new round begins when the cluster has been calm.
void LookForMovesSoon(ClusterState& state);
void OnMoveTimer(ClusterState& state, Actions& out);

// Has the move under way go on, or end, as its two groups are now. Before and after placement in every step.
void UpdateMove(ClusterState& state, Actions& out);

// Whether the group takes another one's place when it is ready.
bool IsSuccessor(const ClusterState& state, const Group& group);

// What became of the last look at the model, or of its move: one sentence; empty where it was never looked at.
std::string ExplainMove(const ClusterState& state, const Model& model);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_REBALANCE_H_
