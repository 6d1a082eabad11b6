// Who is let in: a request is refused at the door with its reason, or joins the queue of its model. The waiting room is
// bounded by count and by prompt tokens; a request that finds a group at once never sits in it.
#ifndef TANDEM_SCHEDULER_CORE_ADMISSION_H_
#define TANDEM_SCHEDULER_CORE_ADMISSION_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const RequestArrived& event, Actions& out);
void Handle(ClusterState& state, const ModelConfigured& event, Actions& out);

// At the end of a step: who joined a queue in it and still waits is told why, or refused where the room is full.
void SettleWaiting(ClusterState& state, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_ADMISSION_H_
