// Who is alive, by the scheduler's own clock: silent for suspect_after, a worker gets no new work; for fence_after, it
// is taken for frozen and dropped. Safety does not rest on this (stale epochs are refused everywhere), only progress.
//
// Heartbeats also carry each rank's progress counter. One that stands still under load for stuck_after, or five times
// its longest pause so far, ends its group.
#ifndef TANDEM_SCHEDULER_CORE_LIVENESS_H_
#define TANDEM_SCHEDULER_CORE_LIVENESS_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const HeartbeatReceived& event, Actions& out);

// Something is to be done on the device from now on: since when its ranks stand still is taken from when it was heard
// last, and its heartbeats are read again, which were all alike. Before anything changes that a heartbeat is held
// against.
void Rouse(ClusterState& state, Device& device);

// Sets the device's timer to the next instant at which something about it may have to be decided.
void ArmLiveness(ClusterState& state, Device& device);
void OnDeviceTimer(ClusterState& state, Device& device, Actions& out);

// The core itself was not stepped for long (a stopped process, a suspended machine): what piled up unread is not held
// against the workers, and silence is counted from now.
void ForgiveStandstill(ClusterState& state, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_LIVENESS_H_
