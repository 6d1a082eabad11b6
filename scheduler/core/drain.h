// How devices and groups leave service without hurting anyone: a transaction that is shown first, protects the last
// replica, and can be taken back at any point before its end.
//
// Cordon: no new group here, what runs goes on. Drain, for a device (a node is all its devices):
//   1. cordoned at once; its groups are `leaving`: they serve, and no longer count as replicas, so that placement
//      (placement.h) looks for replacements. One device takes its whole group, since each rank holds a slice of every
//      layer. A group that does not serve yet is aborted.
//   2. a group stops admitting when its replacement is ready, or at once where none is coming. The last that serves its
//      model is refused where there is no room for another, unless forced.
//   3. its requests run to their end, and it dissolves. At the deadline those that are left move to other groups
//      (migration.h), are aborted by name, or are waited for and reported overdue.
//   4. the worker parks: it becomes a new process that holds nothing of the device. DRAINED means that; it is safe to
//      pull. A device whose process is gone is LOST, which is as empty.
//
// A group is drained the same way up to 3. It moves elsewhere where there is room, or forms again on the same devices.
//
// A wish outlives the worker. Undrain takes it back: what still serves or ends its requests serves on, a parked worker
// gets groups again, a replacement that is one too many retires (pool.h).
//
// All that a drain knows is in its record, Drain, and in the flags of devices and groups; `leaving` follows from these.
#ifndef TANDEM_SCHEDULER_CORE_DRAIN_H_
#define TANDEM_SCHEDULER_CORE_DRAIN_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const CordonRequested& event, Actions& out);
void Handle(ClusterState& state, const UncordonRequested& event, Actions& out);
void Handle(ClusterState& state, const DrainRequested& event, Actions& out);
void Handle(ClusterState& state, const UndrainRequested& event, Actions& out);

// A ready group takes no new request; those it has go on.
void StopAdmitting(ClusterState& state, Group& group, const std::string& why, Actions& out);
// It serves again. REQUIRES: draining, in service, nobody wants it gone.
void Reopen(ClusterState& state, Group& group, const std::string& why, Actions& out);
// Whether a drain wants the group gone.
bool IsDrained(const ClusterState& state, const Group& group);

// Closes groups that were replaced, dissolves those that became empty, parks workers, reports what changed, ends what
// is done. Runs when state.drains_touched, after placement.
void UpdateDrains(ClusterState& state, Actions& out);
// The drain's deadline, or its next report.
void OnDrainTimer(ClusterState& state, Drain& drain, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_DRAIN_H_
