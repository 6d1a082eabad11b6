#include "scheduler/worker_registry.h"

namespace tandem::scheduler {

void WorkerRegistry::Enter(std::shared_ptr<WorkerLink> link) {
  std::shared_ptr<WorkerLink> superseded;
  {
    absl::MutexLock lock(&mu_);
    Entry& entry = entries_[link->incarnation()];
    superseded = std::exchange(entry.link, std::move(link));
  }
  if (superseded) superseded->Close(absl::AbortedError("this process attached again on another stream"));
}

std::shared_ptr<WorkerLink> WorkerRegistry::Admit(core::DeviceId device, core::Incarnation incarnation) {
  absl::MutexLock lock(&mu_);
  const auto it = entries_.find(incarnation);
  if (it == entries_.end()) return nullptr;
  it->second.device = device;
  devices_[device] = incarnation;
  return it->second.link;
}

std::shared_ptr<WorkerLink> WorkerRegistry::Find(core::DeviceId device) const {
  absl::MutexLock lock(&mu_);
  const auto it = devices_.find(device);
  if (it == devices_.end()) return nullptr;
  const auto entry = entries_.find(it->second);
  return entry == entries_.end() ? nullptr : entry->second.link;
}

std::shared_ptr<WorkerLink> WorkerRegistry::Find(core::Incarnation incarnation) const {
  absl::MutexLock lock(&mu_);
  const auto it = entries_.find(incarnation);
  return it == entries_.end() ? nullptr : it->second.link;
}

std::optional<core::DeviceId> WorkerRegistry::DeviceOf(core::Incarnation incarnation) const {
  absl::MutexLock lock(&mu_);
  const auto it = entries_.find(incarnation);
  return it == entries_.end() ? std::nullopt : it->second.device;
}

bool WorkerRegistry::Leave(const WorkerLink& link, std::optional<core::DeviceId>* device) {
  absl::MutexLock lock(&mu_);
  const auto it = entries_.find(link.incarnation());
  if (it == entries_.end() || it->second.link.get() != &link) return false;
  *device = it->second.device;
  if (it->second.device) {
    const auto known = devices_.find(*it->second.device);
    if (known != devices_.end() && known->second == it->first) devices_.erase(known);
  }
  entries_.erase(it);
  return true;
}

std::vector<std::shared_ptr<WorkerLink>> WorkerRegistry::All() const {
  absl::MutexLock lock(&mu_);
  std::vector<std::shared_ptr<WorkerLink>> all;
  for (const auto& [incarnation, entry] : entries_) all.push_back(entry.link);
  return all;
}

}  // namespace tandem::scheduler
