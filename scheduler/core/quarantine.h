// A device that fails again and again is taken out of placement: FAILED, with the reason shown. Three failures within
// ten minutes are enough; what still runs there goes on.
//
// Whose failure is it? When a group is lost its other ranks are innocent, so only what is sure is counted: a worker
// process that died, froze or did not leave; a rank that reported a fault of its own engine; the ranks that alone kept
// a group from forming; a worker that lied about its progress. A communicator that broke says nothing of who broke it,
// unless the group has one rank. What comes within kOneIncident of the last failure is the same incident.
//
// It comes back after a cool-off that doubles from one quarantine to the next, or by an operator's uncordon. The brake:
// never is more than a share of all devices, rounded down, in quarantine at a time. What fails beyond it stays in
// service, is told loudly, and its models go on with their back-off: a fleet where half of all fails has another
// trouble than its devices, and a single device is never taken from a box that has only one.
#ifndef TANDEM_SCHEDULER_CORE_QUARANTINE_H_
#define TANDEM_SCHEDULER_CORE_QUARANTINE_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// Whether one device more may leave service without an operator; if not, it is told that `what` did not take it out.
bool MayLeave(ClusterState& state, const Device& device, const std::string& what, Actions& out);
// Enters quarantine because of `what`. `cool_off` 0: by the number of its quarantines. REQUIRES: it is not in it.
void Quarantine(ClusterState& state, Device& device, const std::string& what, Duration cool_off, Actions& out);

// The device failed, for a reason of its own.
void CountFailure(ClusterState& state, Device& device, const std::string& what, Actions& out);
// It was in its quarantine of that number when an earlier scheduler ended, for `since` by the time of day: what is left
// of its time begins.
void RecallQuarantine(ClusterState& state, Device& device, int number, Duration since);
// An operator has seen to it: nothing is held against the device any more but the number of its quarantines.
void Release(ClusterState& state, Device& device, const std::string& why, Actions& out);
// The cool-off is over.
void OnQuarantineTimer(ClusterState& state, Device& device, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_QUARANTINE_H_
