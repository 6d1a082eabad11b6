// When the links of a host are measured, and what came of it.
//
// A label says what a link should be; only a message that went over it says what it is. So the devices of a host are
// probed pair by pair, one pair at a time per host (two probes would measure each other), and only while the host has
// nothing better to do: no group forms, loads or leaves there, no replica is about to be formed again, no request runs.
// Work that comes during a probe goes first: the worker breaks the probe off and says so, and the pair's turn comes
// again later. Nothing here ever holds back a group or a request.
//
// One timer looks: `probe_pause` after a worker came, again after a host was found busy, when a pair's turn comes, and
// when a probe is overdue. `once` measures each pair until it has a figure, `periodic` again every `probe_again`.
#ifndef TANDEM_SCHEDULER_CORE_LINK_PROBE_H_
#define TANDEM_SCHEDULER_CORE_LINK_PROBE_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const LinkMeasured& event, Actions& out);
void Handle(ClusterState& state, const LinkProbeFailed& event, Actions& out);

// A worker came: its pairs may have to be measured.
void LookAtLinksSoon(ClusterState& state);
// Another piece of hardware stands behind the device's name; its figures are not this one's.
void ForgetLinks(ClusterState& state, DeviceId device);

// Ends what is overdue and starts what is due.
void OnProbeTimer(ClusterState& state, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_LINK_PROBE_H_
