// Where requests wait for a group, and who may. The room is bounded by count, by prompt tokens and by the bytes that
// the shell keeps of them: for the whole installation, and for each priority by a part of that. When it is full, a
// newcomer of higher priority takes the place of the newest that waits with the lowest; then a newcomer of a tenant
// within its share takes one from a tenant that has more than its share of the room. While the room is not full nobody
// is turned away, so a tenant that is alone may have all of it. Who has been with an engine before (its group was lost)
// counts, and is neither turned away nor displaced.
//
// A newcomer whose deadline passes before its turn can come, at the best pace seen, is refused at once.
#ifndef TANDEM_SCHEDULER_CORE_WAITING_ROOM_H_
#define TANDEM_SCHEDULER_CORE_WAITING_ROOM_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// What the request is to its line.
WaitingLine::Size SizeOf(const Request& request);

// Counts it among those that wait; JoinQueue does it too.
void EnterRoom(ClusterState& state, const Request& request);
void JoinQueue(ClusterState& state, Request& request);
void LeaveQueue(ClusterState& state, Request& request);

// At the end of a step: who joined a queue in it and still waits is told why, or refused where the room is full.
void SettleWaiting(ClusterState& state, Actions& out);

// When the client of a request that was refused for now should ask again: within the second half of the time that the
// queue of its model needs to empty, at a point that its id decides, so that those refused together do not come back
// together.
Duration RetryAfter(const ClusterState& state, const Request& request);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_WAITING_ROOM_H_
