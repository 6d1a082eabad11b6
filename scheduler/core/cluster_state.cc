#include "scheduler/core/cluster_state.h"

#include <algorithm>
#include <utility>

#include "scheduler/core/check.h"
#include "scheduler/core/prefetch.h"

namespace tandem::core {

Device& ClusterState::At(DeviceId id) {
  CORE_CHECK(id.value < devices.size(), "device ", id.value, " of ", devices.size());
  return devices[id.value];
}
const Device& ClusterState::At(DeviceId id) const { return const_cast<ClusterState*>(this)->At(id); }

Model& ClusterState::At(ModelId id) {
  CORE_CHECK(id.value < models.size(), "model ", id.value, " of ", models.size());
  return models[id.value];
}
const Model& ClusterState::At(ModelId id) const { return const_cast<ClusterState*>(this)->At(id); }

Device* ClusterState::Find(DeviceId id) { return id.value < devices.size() ? &devices[id.value] : nullptr; }

const Group* ClusterState::Find(GroupId id) const {
  if (const Group* group = group_index_.Find(id); group != nullptr) return group;
  const auto it = std::find_if(dissolved.rbegin(), dissolved.rend(), [&](const Group& g) { return g.id == id; });
  return it == dissolved.rend() ? nullptr : &*it;
}

Request* ClusterState::Find(RequestId id) {
  const auto it = request_index_.find(id);
  if (it == request_index_.end()) return nullptr;
  Prefetch(it->second, Request::kHotBytes);
  return it->second;
}

const Request* ClusterState::Find(RequestId id) const {
  if (const auto it = request_index_.find(id); it != request_index_.end()) return it->second;
  const auto it = ended_index_.find(id);
  return it == ended_index_.end() ? nullptr : it->second;
}

Request& ClusterState::At(Serial serial) {
  const auto it = requests.find(serial);
  CORE_CHECK(it != requests.end(), "request number ", serial);
  return *it->second;
}

Model* ClusterState::FindModel(absl::string_view name) {
  const auto it = model_names.find(std::string(name));
  return it == model_names.end() ? nullptr : &At(it->second);
}
const Model* ClusterState::FindModel(absl::string_view name) const {
  return const_cast<ClusterState*>(this)->FindModel(name);
}

void ClusterState::NameModel(const Model& model) {
  model_names[model.spec.name] = model.id;
  for (const std::string& alias : model.spec.aliases) model_names.emplace(alias, model.id);
}

void ClusterState::UnnameModel(const Model& model) {
  std::erase_if(model_names, [&](const auto& entry) { return entry.second == model.id; });
}

void ClusterState::NameDevice(const Device& device) {
  device_names.emplace(device.spec.Name(), device.id);
  const auto [it, fresh] = node_index_.emplace(device.spec.node, nodes.size());
  if (fresh) nodes.push_back({device.spec.node, {}});
  nodes[it->second].devices.push_back(device.id);
}

Request& ClusterState::AddRequest(RequestId id) {
  const Serial serial = ++last_serial;
  Request& request = *requests.emplace_hint(requests.end(), serial, std::make_unique<Request>())->second;
  request.id = id;
  request.serial = serial;
  const bool fresh = request_index_.emplace(id, &request).second;
  CORE_CHECK(fresh, "request number ", serial, " has the id of one that lives");
  return request;
}

void ClusterState::Remember(Request& request) {
  CORE_CHECK(request.told && !request.HoldsBooking(), "request number ", request.serial);
  const auto indexed = request_index_.find(request.id);
  CORE_CHECK(indexed != request_index_.end(), "request number ", request.serial, " is not known by its id");
  request_index_.erase(indexed);
  const auto living = requests.find(request.serial);
  std::unique_ptr<Request> over = std::move(living->second);
  requests.erase(living);
  KeepEnded(std::move(over));
}

void ClusterState::KeepEnded(std::unique_ptr<Request> request) {
  ended_index_[request->id] = request.get();
  ended.push_back(std::move(request));
  while (ended.size() > static_cast<size_t>(options.remembered)) {
    const auto it = ended_index_.find(ended.front()->id);
    if (it != ended_index_.end() && it->second == ended.front().get()) ended_index_.erase(it);
    ended.pop_front();
    ++ended_forgotten;
  }
}

Group& ClusterState::AddGroup(Group group) {
  const GroupId id = group.id;
  Group& added = groups.emplace(id, std::move(group)).first->second;
  group_index_.Add(id, &added);
  return added;
}

void ClusterState::Remember(Group& group) {
  CORE_CHECK(group.requests.empty() && !group.indexed, "group ", group.id.value, " still serves");
  for (const Member& member : group.members) At(member.device).idle_load = 0;  // it spoke of this one
  group_index_.Remove(group.id);
  const auto node = groups.find(group.id);
  dissolved.push_back(std::move(node->second));
  groups.erase(node);
  while (dissolved.size() > static_cast<size_t>(options.remembered_groups)) {
    dissolved.pop_front();
    ++dissolved_forgotten;
  }
}

void ClusterState::SetTimer(Instant& slot, Instant at, TimerKind kind, uint64_t subject) {
  if (slot == at) return;
  if (slot != kNever) timers.erase(Timer{slot, kind, subject});
  slot = at;
  if (at != kNever) timers.insert(Timer{at, kind, subject});
}

int ClusterState::ReadyReplicas(const Model& model) const {
  return static_cast<int>(std::count_if(model.groups.begin(), model.groups.end(), [&](GroupId id) {
    const Group* group = Find(id);
    return group->InService() && group->state == GroupState::kReady;
  }));
}

int ClusterState::Replicas(const Model& model) const {
  return static_cast<int>(
      std::count_if(model.groups.begin(), model.groups.end(), [&](GroupId id) { return Find(id)->CountsAsReplica(); }));
}

bool ClusterState::IsServed(const Model& model) const {
  return std::any_of(model.groups.begin(), model.groups.end(), [&](GroupId id) { return Find(id)->Serves(); });
}

int ClusterState::Wanted(const Model& model) const {
  return std::max(model.spec.replicas_min, std::min(model.pool.wanted, model.spec.replicas_max));
}

bool ClusterState::Sleeps(const Model& model) const {
  return !model.undeployed && !model.blocked && Wanted(model) == 0 && model.queue.empty();
}

int ClusterState::QueuePosition(const Request& request) const {
  if (!request.Waits()) return 0;
  const Model& model = At(request.model);
  const Tokens expected = model.outputs.P90(options.default_output);
  return static_cast<int>(model.queue.AheadOf(request.priority, request.tenant, request.serial, expected).requests) + 1;
}

}  // namespace tandem::core
