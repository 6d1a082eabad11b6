// Who is let in: a request is refused at the door with its reason, or joins the queue of its model. One that finds a
// group at once never sits in the waiting room (waiting_room.h).
#ifndef TANDEM_SCHEDULER_CORE_ADMISSION_H_
#define TANDEM_SCHEDULER_CORE_ADMISSION_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const RequestArrived& event, Actions& out);
void Handle(ClusterState& state, const ModelConfigured& event, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_ADMISSION_H_
