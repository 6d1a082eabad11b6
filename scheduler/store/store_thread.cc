#include "scheduler/store/store_thread.h"

#include <algorithm>
#include <utility>

namespace tandem::scheduler::store {
namespace {

void Append(const Batch& from, Batch& to) {
  // Within a batch removals come first, so a row that is removed and written anew must end as written, and the other
  // way round: the later word cancels the earlier one.
  for (const std::string& name : from.forgotten_devices) {
    std::erase_if(to.devices, [&](const Device& device) { return device.Name() == name; });
    to.forgotten_devices.push_back(name);
  }
  for (uint64_t id : from.withdrawn) {
    std::erase_if(to.operations, [&](const Operation& operation) { return operation.id == id; });
    to.withdrawn.push_back(id);
  }
  for (const std::string& name : from.forgotten_deployments) {
    std::erase_if(to.deployments, [&](const Deployment& deployment) { return deployment.name == name; });
    to.forgotten_deployments.push_back(name);
  }
  to.deployments.insert(to.deployments.end(), from.deployments.begin(), from.deployments.end());
  to.devices.insert(to.devices.end(), from.devices.begin(), from.devices.end());
  to.operations.insert(to.operations.end(), from.operations.begin(), from.operations.end());
  if (from.leader_epoch.has_value()) to.leader_epoch = from.leader_epoch;
}

}  // namespace

void StoreThread::Dirty::Add(const Batch& batch) {
  for (const std::string& name : batch.forgotten_devices) devices[name] = nullptr;
  for (uint64_t id : batch.withdrawn) operations[id] = nullptr;
  for (const Device& device : batch.devices) devices[device.Name()] = std::make_unique<Device>(device);
  for (const Operation& operation : batch.operations) {
    operations[operation.id] = std::make_unique<Operation>(operation);
  }
  for (const std::string& name : batch.forgotten_deployments) deployments[name] = nullptr;
  for (const Deployment& deployment : batch.deployments) {
    deployments[deployment.name] = std::make_unique<Deployment>(deployment);
  }
}

Batch StoreThread::Dirty::AsBatch() const {
  Batch batch;
  for (const auto& [name, device] : devices) {
    if (device == nullptr) {
      batch.forgotten_devices.push_back(name);
    } else {
      batch.devices.push_back(*device);
    }
  }
  for (const auto& [id, operation] : operations) {
    if (operation == nullptr) {
      batch.withdrawn.push_back(id);
    } else {
      batch.operations.push_back(*operation);
    }
  }
  for (const auto& [name, deployment] : deployments) {
    if (deployment == nullptr) {
      batch.forgotten_deployments.push_back(name);
    } else {
      batch.deployments.push_back(*deployment);
    }
  }
  return batch;
}

StoreThread::StoreThread(std::unique_ptr<Store> store, Options options, OnTrouble on_trouble)
    : store_(std::move(store)), options_(options), on_trouble_(std::move(on_trouble)) {}

StoreThread::~StoreThread() { Stop(); }

void StoreThread::Start() {
  thread_ = std::thread([this] { Run(); });
}

void StoreThread::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    arrived_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool StoreThread::Submit(Batch batch, Done done) {
  absl::MutexLock lock(&mu_);
  if (stopping_ || submitted_ >= options_.most_waiting) return false;
  ++submitted_;
  waiting_.push_back({std::move(batch), std::move(done)});
  arrived_.Signal();
  return true;
}

void StoreThread::Keep(Batch batch) {
  absl::MutexLock lock(&mu_);
  if (stopping_) return;
  waiting_.push_back({std::move(batch), nullptr});
  arrived_.Signal();
}

void StoreThread::Run() {
  bool stopping = false;
  while (!stopping) {
    std::vector<Waiting> items;
    {
      absl::MutexLock lock(&mu_);
      const SteadyTime retry_at = SteadyDeadline(dirty_.empty() ? absl::InfiniteDuration() : retry_);
      while (waiting_.empty() && !stopping_) {
        if (arrived_.WaitUntil(&mu_, retry_at)) break;
      }
      stopping = stopping_;
      items.swap(waiting_);
      submitted_ = 0;
    }
    if (!items.empty() || !dirty_.empty()) CommitAll(std::move(items));
  }
}

void StoreThread::CommitAll(std::vector<Waiting> items) {
  Batch all = dirty_.AsBatch();
  for (const Waiting& item : items) Append(item.batch, all);
  const absl::Status status = store_->Commit(all);
  if (status.ok()) {
    dirty_ = {};
    retry_ = absl::ZeroDuration();
  } else {
    for (Waiting& item : items) {
      if (item.done == nullptr) {
        dirty_.Add(item.batch);
        continue;
      }
      // Its caller is told that nothing was changed. Should the disk have taken the batch before it failed, the next
      // commit takes it out again.
      Batch undo;
      for (const Operation& operation : item.batch.operations) undo.withdrawn.push_back(operation.id);
      dirty_.Add(undo);
    }
    retry_ = std::clamp(retry_ * 2, options_.first_retry, options_.most_retry);
  }
  if (std::exchange(in_trouble_, !status.ok()) != !status.ok()) on_trouble_(status);
  for (Waiting& item : items) {
    if (item.done != nullptr) item.done(status);
  }
}

}  // namespace tandem::scheduler::store
