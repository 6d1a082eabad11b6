// How devices leave service without hurting anyone.
//
// Cordon: no new group here, what runs goes on. Drain: cordon, the groups admit nothing more, requests run to their
// end, the groups dissolve, the devices are DRAINED. One device drained takes its whole group out, because each rank
// holds a slice of every layer. The last replica of a model is not taken unless forced. When the deadline comes first,
// requests are aborted by name, or waited for and reported overdue. A wish outlives the worker and is undone by Undrain
// at any time.
//
// A drained group (not device) is formed again where there is room: its model still wants its replicas.
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

// Dissolves what has become empty, reports what changed, ends what is done. Runs when state.drains_touched.
void UpdateDrains(ClusterState& state, Actions& out);
// The drain's deadline, or its next report.
void OnDrainTimer(ClusterState& state, Drain& drain, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_DRAIN_H_
