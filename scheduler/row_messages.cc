#include "scheduler/row_messages.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/fnv1a.h"
#include "scheduler/core/health.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/words.h"
#include "scheduler/ids.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

v1::DeviceState StateFrom(core::DeviceState state) {
  switch (state) {
    case core::DeviceState::kStarting:
      return v1::DEVICE_STARTING;
    case core::DeviceState::kActive:
      return v1::DEVICE_ACTIVE;
    case core::DeviceState::kDraining:
      return v1::DEVICE_DRAINING;
    case core::DeviceState::kDrained:
      return v1::DEVICE_DRAINED;
    case core::DeviceState::kFailed:
      return v1::DEVICE_FAILED;
    case core::DeviceState::kLost:
      return v1::DEVICE_LOST;
  }
  return v1::DEVICE_STATE_UNSPECIFIED;
}

v1::GroupState StateFrom(core::GroupState state) {
  switch (state) {
    case core::GroupState::kForming:
      return v1::GROUP_FORMING;
    case core::GroupState::kLoading:
      return v1::GROUP_LOADING;
    case core::GroupState::kReady:
      return v1::GROUP_READY;
    case core::GroupState::kDraining:
      return v1::GROUP_DRAINING;
    case core::GroupState::kDissolved:
      return v1::GROUP_DISSOLVED;
  }
  return v1::GROUP_STATE_UNSPECIFIED;
}

v1::RequestState StateFrom(core::RequestState state) {
  switch (state) {
    case core::RequestState::kQueued:
      return v1::REQUEST_QUEUED;
    case core::RequestState::kAssigned:
      return v1::REQUEST_ASSIGNED;
    case core::RequestState::kRunning:
      return v1::REQUEST_RUNNING;
    case core::RequestState::kMigrating:
      return v1::REQUEST_MIGRATING;
    case core::RequestState::kFinished:
      return v1::REQUEST_FINISHED;
    case core::RequestState::kFailed:
      return v1::REQUEST_FAILED;
    case core::RequestState::kCancelled:
      return v1::REQUEST_CANCELLED;
  }
  return v1::REQUEST_STATE_UNSPECIFIED;
}

std::string Hashed(const std::string& text) { return absl::StrFormat("%016x", Fnv1a().Add(text).value()); }

// `Shape`: the device itself or its row.
template <typename Shape>
std::string EtagOf(const Shape& device) {
  std::string text = absl::StrCat(static_cast<int>(device.state), device.cordoned, device.drain_wanted,
                                  device.incarnation.hi, device.incarnation.lo);
  for (core::GroupId group : device.groups) absl::StrAppend(&text, "/", group.value);
  return Hashed(text);
}

void Count(const GroupNumbers& group, ModelAccount& account) {
  account.groups.push_back(group.id);
  account.ready += group.ready;
  account.old += group.outdated && group.serves;
  account.requests += group.requests;
  ++account.states[static_cast<size_t>(group.state)];
}

}  // namespace

std::string Etag(const core::Device& device) { return EtagOf(device); }
std::string Etag(const DeviceRow& device) { return EtagOf(device); }

std::string Etag(const core::ModelSpec& spec) {
  return Hashed(absl::StrCat(core::DeploymentOf(spec), "/", spec.tensor_parallel, "/", spec.replicas_min, "/",
                             spec.replicas_max, "/", spec.priority, "/", spec.memory_utilization, "/", spec.for_latency,
                             "/", absl::StrJoin(spec.aliases, ",")));
}

std::map<core::ModelId, ModelAccount> AccountsOf(const std::vector<GroupNumbers>& groups) {
  std::map<core::ModelId, ModelAccount> accounts;
  for (const GroupNumbers& group : groups) Count(group, accounts[group.model]);
  return accounts;
}

const ModelAccount& AccountOf(const std::map<core::ModelId, ModelAccount>& accounts, core::ModelId model) {
  static const ModelAccount* const kNone = new ModelAccount;
  const auto it = accounts.find(model);
  return it == accounts.end() ? *kNone : it->second;
}

bool IsReady(const ModelRow& model, const ModelAccount& account) { return account.ready > 0 || model.sleeps; }

bool IsOver(const ModelRow& model, const ModelAccount& account) { return model.undeployed && account.groups.empty(); }

v1::Device DeviceFrom(const DeviceRow& device) {
  v1::Device out;
  out.set_name(device.name.ToString());
  out.set_uuid(device.uuid);
  out.set_pci_bus_id(device.pci_bus_id);
  out.set_kind(device.kind);
  out.set_model(device.model);
  out.set_state(StateFrom(device.state));
  out.set_cordoned(device.cordoned);
  out.set_reason(device.reason);
  out.set_memory_total_bytes(device.memory_total.value);
  out.set_memory_free_bytes(device.memory_free.value);
  out.set_memory_budget_bytes(device.memory_budget.value);
  out.set_memory_ours_bytes(device.memory_ours.value);
  out.set_memory_foreign_bytes(device.memory_foreign.value);
  for (core::GroupId group : device.groups) out.add_groups(core::Name(group));
  out.set_numerics(device.numerics);
  out.set_build(device.build);
  out.set_heartbeat_age_ms(ToMilliseconds(device.heartbeat_age));
  out.set_etag(Etag(device));
  out.set_threads(device.threads);
  out.set_numa_node(device.numa_node);
  for (std::string& line : core::DescribeAilments(device.ailments, device.now)) out.add_health(std::move(line));
  return out;
}

v1::Device DeviceFrom(const core::ClusterState& state, const core::Device& device) {
  return DeviceFrom(RowOf(state, device));
}

v1::Group GroupFrom(const GroupRow& group) {
  const GroupNumbers& numbers = group.numbers;
  v1::Group out;
  out.set_name(core::Name(numbers.id));
  SetEpoch(numbers.epoch.leader, numbers.epoch.counter, out.mutable_epoch());
  out.set_state(StateFrom(numbers.state));
  out.set_model(group.model);
  for (const RankRow& rank : group.ranks) {
    const std::string name = rank.device.ToString();
    out.add_devices(name);
    auto& memory = *out.add_memory();
    memory.set_device(name);
    memory.set_estimated_bytes(rank.estimated.value);
    memory.set_measured_bytes(rank.measured.value);
    memory.set_planned_bytes(rank.planned.value);
    if (rank.measured.value > 0) memory.set_difference_bytes((rank.measured - rank.estimated).value);
    memory.set_kv_bytes(group.kv_bytes.value);
  }
  out.set_why(group.why);
  out.set_kv_blocks(numbers.kv_blocks);
  out.set_kv_blocks_free(numbers.free_blocks);
  out.set_kv_booked_tokens(numbers.booked.value);
  out.set_kv_capacity_tokens(numbers.capacity.value);
  out.set_running(numbers.running);
  out.set_waiting(numbers.waiting);
  out.set_max_sequences(numbers.max_sequences);
  out.set_numerics_id(group.numerics_id);
  out.set_steps(numbers.steps);
  out.set_preemptions(numbers.preemptions);
  out.set_reason(group.reason);
  return out;
}

v1::Model ModelFrom(const ModelRow& model, const ModelAccount& account) {
  const core::ModelSpec& spec = model.spec;
  v1::Model out;
  out.set_name(spec.name);
  for (const std::string& alias : spec.aliases) out.add_aliases(alias);
  out.set_path(spec.path);
  out.set_revision(spec.revision);
  out.set_task(spec.task);
  out.set_tensor_parallel(spec.tensor_parallel == 0 ? "auto" : absl::StrCat(spec.tensor_parallel));
  out.set_replicas_wanted(model.wanted);
  out.set_replicas_ready(account.ready);
  out.set_replicas_old(account.old);
  out.set_sleeping(model.sleeps);
  out.set_max_model_len(spec.max_model_len);
  out.set_dtype(spec.dtype);
  for (core::GroupId group : account.groups) out.add_groups(core::Name(group));
  out.set_queued(model.queued);
  out.set_waits_for(model.waits_for);
  out.set_max_sequences(spec.max_sequences);
  out.set_replicas_min(spec.replicas_min);
  out.set_replicas_max(spec.replicas_max);
  out.set_leaving(model.undeployed);
  out.set_etag(Etag(spec));
  return out;
}

v1::Model ModelFrom(const core::ClusterState& state, const core::Model& model) {
  ModelAccount account;
  for (core::GroupId id : model.groups) Count(NumbersOf(*state.Find(id)), account);
  return ModelFrom(RowOf(state, model), account);
}

v1::Request RequestFrom(const RequestRow& request, uint32_t ahead) {
  v1::Request out;
  out.set_name(absl::StrCat("requests/", ToHex(request.id)));
  out.set_model(request.model);
  out.set_state(StateFrom(request.state));
  SetEpoch(request.attempt.leader, request.attempt.counter, out.mutable_attempt());
  if (request.group.value != 0) out.set_group(core::Name(request.group));
  out.set_prompt_tokens(request.prompt.value);
  out.set_output_tokens(request.output.value);
  out.set_max_tokens(request.max_tokens.value);
  out.set_priority(request.priority);
  out.set_tenant(request.tenant);
  out.set_age_ms(ToMilliseconds(request.age));
  out.set_queue_position(ahead);
  out.set_preemptions(request.preemptions);
  out.set_outcome(request.outcome_text);
  out.set_caller_id(request.caller_id);
  out.set_trace_id(request.trace_id);
  return out;
}

}  // namespace tandem::scheduler
