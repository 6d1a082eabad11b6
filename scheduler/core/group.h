// The life of a group: forming, loading, ready, leaving, dissolved. One rank that fails ends it for all, because each
// holds a slice of every layer; what is left of it is told to leave, and its devices are free when they said so.
//
// A group leaves in one of two ways. Dissolving: no request runs, all ranks leave in order. Aborting: now, and its
// requests are lost. Either way a rank that does not say that it left within leave_deadline is taken for lost.
#ifndef TANDEM_SCHEDULER_CORE_GROUP_H_
#define TANDEM_SCHEDULER_CORE_GROUP_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// REQUIRES: report.verdict is kPlaced.
void StartGroup(ClusterState& state, Model& model, const PlacementReport& report, Actions& out);

// No request holds a booking on it.
void BeginDissolve(ClusterState& state, Group& group, const std::string& why, Actions& out);
// Its requests go on elsewhere. kWorkerLost and kEngineFault: it died, perhaps of one of them. kDraining: nothing is
// wrong, so its model need not wait before it tries again. The group may be gone afterwards.
void AbortNow(ClusterState& state, Group& group, Reason reason, const std::string& why, Actions& out);
// The rank on this device is out, whatever it says. Aborts the rest if the group was in service.
void MemberGone(ClusterState& state, Group& group, DeviceId device, const std::string& why, Actions& out);

void Handle(ClusterState& state, const GroupFormed& event, Actions& out);
void Handle(ClusterState& state, const ModelLoaded& event, Actions& out);
void Handle(ClusterState& state, const GroupReady& event, Actions& out);
void Handle(ClusterState& state, const GroupFailed& event, Actions& out);
void Handle(ClusterState& state, const GroupLeft& event, Actions& out);
// Forming, loading or leaving took too long.
void OnGroupDeadline(ClusterState& state, Group& group, Actions& out);

// What a ready group can hold, from its blocks and limits.
void OpenAccount(ClusterState& state, Group& group);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_GROUP_H_
