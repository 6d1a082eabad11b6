// The life of a request after it was let in: queued, assigned, running, perhaps the same again on another group
// (migration.h), one end. Every road to an end goes through Fail
// or Complete, so that each request is told exactly one last word. Cancel and deadline tell the client at once and the
// engine to stop; the booking stays until the engine says that it has.
#ifndef TANDEM_SCHEDULER_CORE_REQUEST_LIFE_H_
#define TANDEM_SCHEDULER_CORE_REQUEST_LIFE_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Note(const ClusterState& state, Request& request, MomentKind kind, int64_t number = 0);

// The last word of a request that did not finish. The request is gone afterwards unless it holds a booking.
void Fail(ClusterState& state, Request& request, Reason reason, std::string message, Actions& out);
// Tells rank 0 to stop the current attempt. Once is enough.
void AbortCurrent(ClusterState& state, Request& request, const std::string& why, Actions& out);

// The attempt is void, and with it its booking: the request goes on elsewhere, unless its client has its end. `died`:
// the group did, while it ran this and others; see migration.h.
void LoseAttempt(ClusterState& state, Request& request, bool died, const std::string& why, Actions& out);
// A request that was let in and lost its group to a drain waits for the drain's end, or its own deadline.
bool IsPatient(const Request& request, Reason refused);
// All requests that wait for the model are refused, but the patient ones.
void FailQueue(ClusterState& state, Model& model, Reason reason, const std::string& why, Actions& out);

void Handle(ClusterState& state, const RequestCancelled& event, Actions& out);
void Handle(ClusterState& state, const RequestStarted& event, Actions& out);
void Handle(ClusterState& state, const RequestComputed& event, Actions& out);
void Handle(ClusterState& state, const RequestPreempted& event, Actions& out);
void Handle(ClusterState& state, const RequestEnded& event, Actions& out);
void Handle(ClusterState& state, const RequestStopped& event, Actions& out);
void Handle(ClusterState& state, const RequestSpoiled& event, Actions& out);
// The request's deadline came.
void OnDeadlineOf(ClusterState& state, Serial serial, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_REQUEST_LIFE_H_
