// Workers come and go. A device is known by its name for ever, a worker process by its incarnation: the same one brings
// back what it held, a new one means that all before it is gone. Only one process may speak for a device.
#ifndef TANDEM_SCHEDULER_CORE_WORKER_H_
#define TANDEM_SCHEDULER_CORE_WORKER_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const WorkerAttached& event, Actions& out);
void Handle(ClusterState& state, const WorkerDetached& event, Actions& out);

// The process behind the device is gone or not to be trusted: its groups end. `drop`: its stream is closed too.
void LoseDevice(ClusterState& state, Device& device, LossCause cause, const std::string& why, bool drop, Actions& out);

// It left a group: perhaps it is free or drained now.
void DeviceFreed(ClusterState& state, Device& device);
// What an operator and the attachment make of it.
void RefreshState(Device& device);

// Tells a worker to leave a group that this scheduler does not keep. Its device is not free until it did.
void Evict(ClusterState& state, Device& device, GroupId group, GroupEpoch epoch, const std::string& why, Actions& out);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_WORKER_H_
