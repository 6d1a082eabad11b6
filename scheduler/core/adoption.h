// After a start of the scheduler its workers come back with the groups of the scheduler before. Nothing is formed until
// all expected devices are there or the reattach window has passed: an unknown device is not a free device.
//
// A group whose ranks are all back, ready, with one epoch and a model that is configured, is adopted as it stands; its
// requests go on, see found_requests.h. Any other group is told to leave when the window closes.
#ifndef TANDEM_SCHEDULER_CORE_ADOPTION_H_
#define TANDEM_SCHEDULER_CORE_ADOPTION_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const LeaderStarted& event, Actions& out);

// The worker holds a shard of a group that this core does not count it in.
void Claim(ClusterState& state, Device& device, const HeldShard& shard, Actions& out);
// The device went away again with what it claimed.
void ForgetClaims(ClusterState& state, DeviceId device);

void SettleIfComplete(ClusterState& state, Actions& out);
// The window closed: what is not complete will not be.
void Settle(ClusterState& state, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_ADOPTION_H_
