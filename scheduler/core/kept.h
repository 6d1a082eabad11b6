// What outlives a run of the scheduler: which devices there are, what operators want of them, and which drains go on.
//
// The core is the truth and the store its memory: each change leaves a step as KeepDevice or KeepDrain, and the next
// run gets the last of each back in LeaderStarted. A device that is known and not back yet is LOST with its wishes, so
// it is neither free nor forgotten. An unfinished drain waits until the workers are back: what comes back with a group
// is drained on; a device that does not come back in the reattach window holds nothing any more and counts as drained;
// a drained group that does not come back is gone.
//
// A drain that is asked for before the workers are back is decided when they are: until then nobody knows which replica
// is the last.
#ifndef TANDEM_SCHEDULER_CORE_KEPT_H_
#define TANDEM_SCHEDULER_CORE_KEPT_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// ---- towards the store --------------------------------------------------------------------------------------------

// Its identity or a wish about it may have changed: what did is said at the end of the step.
void KeepSoon(ClusterState& state, const Device& device);
// Says it. Runs once a step.
void KeepChanged(ClusterState& state, Actions& out);
// As the store should know it.
KnownDevice Known(const Device& device);

void KeepRunning(const ClusterState& state, const Drain& drain, Actions& out);
// `refused` as in ReportDrain: kNone, it is done; kCancelled, it was undone.
void KeepEnded(OperationId operation, Reason refused, const std::string& message, Actions& out);

// ---- back from it -------------------------------------------------------------------------------------------------

// Takes up what LeaderStarted brings. REQUIRES: no device is known yet.
void Recall(ClusterState& state, const LeaderStarted& event, Actions& out);
// A start is held up for this device until the reattach window closes: it may come back with a group.
bool IsAwaited(const ClusterState& state, const Device& device);
// A group of an earlier run was adopted; the drains that want it gone take it.
void JoinDrains(ClusterState& state, Group& group, Actions& out);

// Keeps the request until the workers are back.
void Defer(ClusterState& state, const DrainRequested& event, Actions& out);
// Undrain came first: it no longer asks for this device.
void WithdrawDeferred(ClusterState& state, DeviceId device, Actions& out);
// The workers are back, or will not be: the deferred drains are decided, the recalled ones may end, and devices that
// nobody wants anything of are forgotten.
void ConcludeRecall(ClusterState& state, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_KEPT_H_
