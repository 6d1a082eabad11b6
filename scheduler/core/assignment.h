// Which ready group takes which request: the decision of microseconds.
//
// The queue of a model is tried from its head. Behind a request that fits nowhere now a few more of its priority are
// tried, so that a large one does not idle what small ones could use; but each lets only so many pass, and then the
// room that comes free is kept for it. Among the groups with room the least booked share of KV wins, ties go to the
// lowest id; but what of the prompt a group has cached, and what prompts it has not begun, count too (ChooseGroup).
// Where a full group has less work than any with room, since it holds most of the prompt, the request waits for it: at
// most for as long as computing that would take, and while others have room it holds up nobody.
// Only the models that an event may have helped are tried.
#ifndef TANDEM_SCHEDULER_CORE_ASSIGNMENT_H_
#define TANDEM_SCHEDULER_CORE_ASSIGNMENT_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// Empties state.helped.
void AssignWaiting(ClusterState& state, Actions& out);

// The time of a request that waits for a full group is over: it is tried again, for any.
void OnReleaseTimer(ClusterState& state, Model& model);

// What a queued request waits for, in one sentence.
std::string WhyWaiting(const ClusterState& state, const Request& request);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_ASSIGNMENT_H_
