#include "scheduler/store/memory_store.h"

#include <algorithm>

namespace tandem::scheduler::store {

absl::Status MemoryStore::Commit(const Batch& batch) {
  if (fault_ != nullptr) {
    if (absl::Status status = fault_(); !status.ok()) return status;
  }
  if (batch.leader_epoch.has_value()) leader_epoch_ = *batch.leader_epoch;
  for (const std::string& name : batch.forgotten_devices) devices_.erase(name);
  for (const Device& device : batch.devices) devices_[device.Name()] = device;
  for (uint64_t id : batch.withdrawn) operations_.erase(id);
  for (const Operation& operation : batch.operations) operations_[operation.id] = operation;
  for (const std::string& name : batch.forgotten_deployments) deployments_.erase(name);
  for (const Deployment& deployment : batch.deployments) deployments_[deployment.name] = deployment;
  auto ended = std::count_if(operations_.begin(), operations_.end(), [](const auto& o) { return o.second.Ended(); });
  for (auto it = operations_.begin(); ended > kMostEnded;) {
    const bool drop = it->second.Ended();
    ended -= drop;
    it = drop ? operations_.erase(it) : std::next(it);
  }
  return absl::OkStatus();
}

absl::StatusOr<Snapshot> MemoryStore::Load() {
  Snapshot snapshot;
  snapshot.leader_epoch = leader_epoch_;
  for (const auto& [name, device] : devices_) snapshot.devices.push_back(device);
  for (const auto& [id, operation] : operations_) snapshot.operations.push_back(operation);
  for (const auto& [name, deployment] : deployments_) snapshot.deployments.push_back(deployment);
  return snapshot;
}

}  // namespace tandem::scheduler::store
