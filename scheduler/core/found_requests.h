// After a start of the scheduler the engines of an earlier one still compute, and say so: RequestFound. The request
// goes on under this scheduler where it runs, with the attempt that the earlier leader gave it and with a booking.
//
// Its group may not be adopted yet: rank 0 speaks before the last of the other ranks is back. Until then the request
// awaits its group: it holds a place there without a booking, and all that happens to it (start, end, cancel, deadline)
// is taken as usual. If the group does not come back whole by the end of the reattach window, the attempt is void and
// the request moves to another group with the tokens that the router has (LoseAttempt).
//
// Two engines may claim one request, where the earlier scheduler had moved it away from the first: the later attempt
// wins, the other is told to stop.
#ifndef TANDEM_SCHEDULER_CORE_FOUND_REQUESTS_H_
#define TANDEM_SCHEDULER_CORE_FOUND_REQUESTS_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const RequestFound& event, Actions& out);

// The group was adopted: what awaited it gets its booking, and the word to stop where one is due.
void SeatFound(ClusterState& state, Group& group, Actions& out);
// No group is adopted any more: what still awaits one has lost it.
void LoseFound(ClusterState& state, Actions& out);

// The request leaves its engine, by the engine's word or because the engine is no more: its booking is released, or it
// awaits its group no longer. REQUIRES: Placed().
void Unplace(ClusterState& state, Request& request);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_FOUND_REQUESTS_H_
