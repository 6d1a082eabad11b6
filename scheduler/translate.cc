#include "scheduler/translate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/prefix_landmarks.h"
#include "placement/topology/topology.h"
#include "scheduler/core/health.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/rollout.h"
#include "scheduler/ids.h"

namespace tandem::scheduler {
namespace {

// A worker holds a few groups and their requests; more is a broken worker.
constexpr size_t kMostLinks = placement::kMostDevicesOfHost;
constexpr uint32_t kMostNvLinks = 64;
constexpr int kMostHeldShards = 64;
constexpr int kMostHeldRequests = 16384;
constexpr int kMostLandmarks = 256;  // of a message; the worker cuts what is more
constexpr size_t kLongestName = 256;
constexpr size_t kLongestSentence = 1024;
// Ledgers add a few of these up in int64.
constexpr uint64_t kMostBytes = uint64_t{1} << 56;

core::GroupEpoch EpochFrom(const v1::Epoch& epoch) { return {epoch.leader(), epoch.counter()}; }
core::GroupId IdFrom(const v1::GroupKey& key) { return {key.group_id()}; }

absl::StatusOr<std::vector<uint64_t>> LandmarksFrom(const google::protobuf::RepeatedPtrField<std::string>& hashes) {
  if (hashes.size() > kMostLandmarks) {
    return absl::InvalidArgumentError(
        absl::StrFormat("CacheChanged has %d hashes; a message has at most %d", hashes.size(), kMostLandmarks));
  }
  std::vector<uint64_t> landmarks;
  for (const std::string& bytes : hashes) {
    std::array<uint8_t, 16> hash;
    if (bytes.size() != hash.size()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("CacheChanged has a hash of %d bytes; they have %d", bytes.size(), hash.size()));
    }
    std::copy(bytes.begin(), bytes.end(), hash.begin());
    landmarks.push_back(LandmarkOf(hash));
  }
  return landmarks;
}

core::Bytes BytesFrom(uint64_t bytes) { return {static_cast<int64_t>(std::min(bytes, kMostBytes))}; }
int32_t CountFrom(uint32_t count) {
  return static_cast<int32_t>(std::min<uint32_t>(count, std::numeric_limits<int32_t>::max()));
}
// Weights, packed copies and activations as measured: what the process grew by, less its KV pool. A worker that can not
// measure sends its own sum.
core::Bytes StaticBytesFrom(const v1::MemoryLedger& ledger) {
  const core::Bytes grown = BytesFrom(ledger.measured_growth_bytes()), kv = BytesFrom(ledger.kv_bytes());
  if (grown > kv) return grown - kv;
  return BytesFrom(ledger.weight_bytes()) + BytesFrom(ledger.packed_bytes()) + BytesFrom(ledger.activation_bytes());
}
std::string Clipped(const std::string& text) { return text.substr(0, kLongestSentence); }

core::GroupFailure FailureFrom(v1::GroupFailed::Reason reason) {
  switch (reason) {
    case v1::GroupFailed::BOOTSTRAP:
      return core::GroupFailure::kBootstrap;
    case v1::GroupFailed::MODEL_UNUSABLE:
      return core::GroupFailure::kModelUnusable;
    case v1::GroupFailed::MODEL_MISMATCH:
      return core::GroupFailure::kModelMismatch;
    case v1::GroupFailed::NEVER_FITS:
      return core::GroupFailure::kNeverFits;
    case v1::GroupFailed::NO_CAPACITY:
      return core::GroupFailure::kNoCapacity;
    case v1::GroupFailed::PEER_LOST:
      return core::GroupFailure::kPeerLost;
    case v1::GroupFailed::COMMUNICATOR:
      return core::GroupFailure::kCommunicator;
    case v1::GroupFailed::ABORTED:
      return core::GroupFailure::kAborted;
    case v1::GroupFailed::STALE_EPOCH:
      return core::GroupFailure::kStaleEpoch;
    case v1::GroupFailed::BUSY:
      return core::GroupFailure::kBusy;
    default:
      return core::GroupFailure::kEngineFault;  // also what a newer worker may say
  }
}

absl::StatusOr<core::HeldShard> HeldShardFrom(const v1::HeldShard& from) {
  if (from.size() == 0 || from.size() > 1024 || from.rank() >= from.size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Hello holds rank %d of %d in group %d", from.rank(), from.size(), from.group().group_id()));
  }
  if (from.requests_size() > kMostHeldRequests) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Hello holds %d requests; allowed are %d", from.requests_size(), kMostHeldRequests));
  }
  core::HeldShard shard{IdFrom(from.group()),
                        EpochFrom(from.group().epoch()),
                        static_cast<int>(from.rank()),
                        static_cast<int>(from.size()),
                        from.model(),
                        from.ready(),
                        CountFrom(from.kv_blocks()),
                        Clipped(from.numerics_id()),
                        {},
                        Clipped(from.deployment())};
  for (const auto& request : from.requests()) {
    const auto id = RequestIdFromBytes(request.key().request_id());
    if (!id) return absl::InvalidArgumentError("Hello holds a request whose id is not 16 bytes");
    shard.requests.push_back(
        {*id, AttemptFrom(request.key()), {request.prompt_tokens()}, {request.output_tokens()}, request.ended()});
  }
  return shard;
}

core::HeartbeatReceived HeartbeatFrom(const v1::Heartbeat& from, core::DeviceId device, core::Incarnation incarnation) {
  core::HeartbeatReceived heartbeat{
      device, incarnation, BytesFrom(from.memory_free_bytes()), BytesFrom(from.memory_process_bytes()), {}};
  for (const auto& load : from.shards()) {
    if (heartbeat.loads.size() == kMostHeldShards) break;
    core::GroupLoad out;
    out.group = IdFrom(load.group());
    out.epoch = EpochFrom(load.group().epoch());
    out.progress = load.progress();
    out.busy = load.busy();
    out.rank0 = load.free_blocks() > 0 || load.running() > 0 || load.steps() > 0;  // others leave these unset
    out.free_blocks = CountFrom(load.free_blocks());
    out.running = CountFrom(load.running());
    out.waiting = CountFrom(load.waiting());
    out.steps = load.steps();
    out.preemptions = load.preemptions();
    out.step_us = static_cast<int64_t>(std::min<uint64_t>(load.step_us_ewma(), INT64_MAX));
    out.step_tokens = static_cast<int64_t>(std::min<uint64_t>(load.step_tokens_ewma(), INT64_MAX));
    heartbeat.loads.push_back(out);
  }
  return heartbeat;
}

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

void SetEpoch(uint64_t leader, uint32_t counter, v1::Epoch* out) {
  out->set_leader(leader);
  out->set_counter(counter);
}

uint64_t Milliseconds(core::Duration d) { return static_cast<uint64_t>(std::max<int64_t>(d.us, 0)) / 1000; }

std::string Hashed(const std::string& text) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a: stable over restarts, and no secret
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  return absl::StrFormat("%016x", hash);
}

// Changes whenever what an operator would decide on changes: state, cordon, groups and process, not memory or age.
std::string Etag(const core::Device& device) {
  std::string text = absl::StrCat(static_cast<int>(device.state), device.cordoned, device.drain_wanted,
                                  device.incarnation.hi, device.incarnation.lo);
  for (core::GroupId group : device.groups) absl::StrAppend(&text, "/", group.value);
  return Hashed(text);
}

// Changes with every deploy and scale.
std::string Etag(const core::ModelSpec& spec) {
  return Hashed(absl::StrCat(core::DeploymentOf(spec), "/", spec.tensor_parallel, "/", spec.replicas_min, "/",
                             spec.replicas_max, "/", spec.priority, "/", spec.memory_utilization, "/", spec.for_latency,
                             "/", absl::StrJoin(spec.aliases, ",")));
}

}  // namespace

// ---- from workers -------------------------------------------------------------------------------------------------

core::Attempt AttemptFrom(const v1::AttemptKey& key) { return {key.attempt().leader(), key.attempt().counter()}; }

absl::StatusOr<core::WorkerAttached> WorkerAttachedFrom(const v1::Hello& hello) {
  const auto& facts = hello.device();
  const auto incarnation = IncarnationFromBytes(hello.incarnation());
  if (!incarnation) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Hello.incarnation has %d bytes instead of 16", hello.incarnation().size()));
  }
  if (facts.node().empty() || facts.node().size() > kLongestName || absl::StrContains(facts.node(), "/")) {
    return absl::InvalidArgumentError("Hello.device.node is empty, too long or holds a '/'");
  }
  if (facts.memory_total_bytes() == 0) return absl::InvalidArgumentError("Hello.device.memory_total_bytes is 0");
  const double utilization = facts.memory_utilization();
  if (!(utilization > 0 && utilization <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Hello.device.memory_utilization is %g; allowed are values > 0 and <= 1", utilization));
  }
  if (hello.shards_size() > kMostHeldShards) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Hello holds %d shards; allowed are %d", hello.shards_size(), kMostHeldShards));
  }
  core::WorkerAttached event;
  event.incarnation = *incarnation;
  event.parked = hello.parked();
  core::DeviceSpec& device = event.device;
  device.node = facts.node();
  device.index = facts.index();
  device.kind = facts.kind();
  device.model = Clipped(facts.model());
  device.uuid = Clipped(facts.uuid());
  device.pci_bus_id = Clipped(facts.pci_bus_id());
  device.numa_node = facts.numa_node();
  device.threads = facts.threads();
  device.build = Clipped(hello.build());
  device.numerics = Clipped(hello.numerics());
  device.memory_total = BytesFrom(facts.memory_total_bytes());
  device.memory_free = BytesFrom(facts.memory_free_bytes());
  device.memory_process = BytesFrom(facts.memory_process_bytes());
  device.memory_budget = {
      static_cast<int64_t>(std::floor(static_cast<double>(device.memory_total.value) * utilization))};
  for (const v1::LinkFacts& link : facts.links()) {
    if (device.links.size() == kMostLinks) break;
    const std::optional<placement::PathKind> kind = placement::PathKindOf(link.kind());
    if (!kind) continue;  // a later worker's word; what is not known is taken for the slowest
    device.links.push_back(
        {Clipped(link.peer_uuid()), *kind, static_cast<int>(std::min(link.nvlinks(), kMostNvLinks))});
  }
  for (const auto& held : hello.shards()) {
    auto shard = HeldShardFrom(held);
    if (!shard.ok()) return shard.status();
    event.shards.push_back(*std::move(shard));
  }
  return event;
}

absl::StatusOr<std::optional<core::Event>> EventFrom(const v1::AttachRequest& message, core::DeviceId device,
                                                     core::Incarnation incarnation) {
  switch (message.event_case()) {
    case v1::AttachRequest::kHello:
      return absl::InvalidArgumentError("a second Hello on one stream");
    case v1::AttachRequest::kHeartbeat:
      return core::Event(HeartbeatFrom(message.heartbeat(), device, incarnation));
    case v1::AttachRequest::kGroupFormed: {
      const auto& key = message.group_formed().group();
      return core::Event(core::GroupFormed{device, IdFrom(key), EpochFrom(key.epoch())});
    }
    case v1::AttachRequest::kModelLoaded: {
      const auto& from = message.model_loaded();
      return core::Event(core::ModelLoaded{device, IdFrom(from.group()), EpochFrom(from.group().epoch()),
                                           StaticBytesFrom(from.memory())});
    }
    case v1::AttachRequest::kGroupReady: {
      const auto& from = message.group_ready();
      core::GroupReady ready;
      ready.device = device;
      ready.group = IdFrom(from.group());
      ready.epoch = EpochFrom(from.group().epoch());
      ready.kv_blocks = CountFrom(from.kv_blocks());
      ready.block_tokens = CountFrom(from.block_tokens());
      ready.max_sequences = CountFrom(from.max_sequences());
      ready.max_model_len = CountFrom(from.max_model_len());
      ready.kv_bytes = BytesFrom(from.memory().kv_bytes());
      ready.numerics_id = Clipped(from.numerics_id());
      return core::Event(std::move(ready));
    }
    case v1::AttachRequest::kGroupFailed: {
      const auto& from = message.group_failed();
      return core::Event(core::GroupFailed{device, IdFrom(from.group()), EpochFrom(from.group().epoch()),
                                           FailureFrom(from.reason()), Clipped(from.message())});
    }
    case v1::AttachRequest::kGroupLeft: {
      const auto& key = message.group_left().group();
      return core::Event(core::GroupLeft{device, IdFrom(key), EpochFrom(key.epoch())});
    }
    case v1::AttachRequest::kCacheChanged: {
      const auto& from = message.cache_changed();
      auto stored = LandmarksFrom(from.stored()), evicted = LandmarksFrom(from.evicted());
      if (!stored.ok()) return stored.status();
      if (!evicted.ok()) return evicted.status();
      return core::Event(core::CacheChanged{device, IdFrom(from.group()), EpochFrom(from.group().epoch()), from.whole(),
                                            *std::move(stored), *std::move(evicted)});
    }
    case v1::AttachRequest::kLinkMeasured: {
      const auto& from = message.link_measured();
      if (!from.error().empty()) return core::Event(core::LinkProbeFailed{device, from.probe(), Clipped(from.error())});
      constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
      return core::Event(core::LinkMeasured{device, from.probe(),
                                            static_cast<int64_t>(std::min(from.small_message_ns(), kMost)),
                                            static_cast<int64_t>(std::min(from.bandwidth_bytes_per_s(), kMost))});
    }
    default:
      return std::optional<core::Event>();
  }
}

core::RequestEnded RequestEndedFrom(core::RequestId id, core::Attempt attempt, const v1::Ended& ended) {
  core::EndedHow how = core::EndedHow::kFault;
  switch (ended.how()) {
    case v1::Ended::STOPPED:
      how = core::EndedHow::kStopped;
      break;
    case v1::Ended::LENGTH_REACHED:
      how = core::EndedHow::kLengthReached;
      break;
    case v1::Ended::ABORTED:
      how = core::EndedHow::kAborted;
      break;
    case v1::Ended::REFUSED:
      how = core::EndedHow::kRefused;
      break;
    default:
      break;
  }
  return {id, attempt, how, {ended.output_tokens()}, Clipped(ended.message())};
}

// ---- to workers ---------------------------------------------------------------------------------------------------

v1::GroupKey GroupKeyFrom(core::GroupId group, core::GroupEpoch epoch) {
  v1::GroupKey key;
  key.set_group_id(group.value);
  SetEpoch(epoch.leader, epoch.counter, key.mutable_epoch());
  return key;
}

v1::AttemptKey AttemptKeyFrom(core::RequestId request, core::Attempt attempt) {
  v1::AttemptKey key;
  key.set_request_id(ToBytes(request.hi, request.lo));
  SetEpoch(attempt.leader, attempt.counter, key.mutable_attempt());
  return key;
}

// ---- to operators -------------------------------------------------------------------------------------------------

std::string GroupName(core::GroupId id) { return absl::StrCat("groups/", id.value); }

std::optional<core::GroupId> GroupIdFrom(absl::string_view name) {
  absl::ConsumePrefix(&name, "groups/");
  core::GroupId id;
  if (!absl::SimpleAtoi(name, &id.value)) return std::nullopt;
  return id;
}

v1::Device DeviceFrom(const core::ClusterState& state, const core::Device& device) {
  v1::Device out;
  out.set_name(device.spec.Name());
  out.set_uuid(device.spec.uuid);
  out.set_pci_bus_id(device.spec.pci_bus_id);
  out.set_kind(device.spec.kind);
  out.set_model(device.spec.model);
  out.set_state(StateFrom(device.state));
  out.set_cordoned(device.cordoned);
  out.set_reason(device.reason);
  out.set_memory_total_bytes(device.spec.memory_total.value);
  out.set_memory_free_bytes(device.memory_free.value);
  out.set_memory_budget_bytes(device.spec.memory_budget.value);
  out.set_memory_ours_bytes(core::MemoryOurs(state, device).value);
  out.set_memory_foreign_bytes(core::ForeignMemory(device).value);
  for (core::GroupId group : device.groups) out.add_groups(GroupName(group));
  out.set_numerics(device.spec.numerics);
  out.set_build(device.spec.build);
  out.set_heartbeat_age_ms(Milliseconds(state.now - device.last_heard));
  out.set_etag(Etag(device));
  out.set_threads(device.spec.threads);
  out.set_numa_node(device.spec.numa_node);
  for (std::string& line : core::DescribeHealth(state, device)) out.add_health(std::move(line));
  return out;
}

v1::Group GroupFrom(const core::ClusterState& state, const core::Group& group) {
  v1::Group out;
  out.set_name(GroupName(group.id));
  SetEpoch(group.epoch.leader, group.epoch.counter, out.mutable_epoch());
  out.set_state(StateFrom(group.state));
  out.set_model(state.At(group.model).spec.name);
  for (const core::Member& member : group.members) {
    const std::string name = state.At(member.device).spec.Name();
    out.add_devices(name);
    auto& memory = *out.add_memory();
    memory.set_device(name);
    memory.set_estimated_bytes(member.estimated.value);
    memory.set_measured_bytes(member.measured.value);
    memory.set_planned_bytes(member.planned.value);
    if (member.measured.value > 0) memory.set_difference_bytes((member.measured - member.estimated).value);
    memory.set_kv_bytes(group.kv_bytes.value);
  }
  out.set_why(group.why);
  out.set_kv_blocks(group.kv_blocks);
  out.set_kv_blocks_free(group.free_blocks);
  out.set_kv_booked_tokens(group.kv.booked.value);
  out.set_kv_capacity_tokens(group.kv.capacity.value);
  out.set_running(group.running);
  out.set_waiting(group.waiting);
  out.set_max_sequences(group.max_sequences);
  out.set_numerics_id(group.numerics_id);
  out.set_steps(group.steps);
  out.set_preemptions(group.preemptions);
  out.set_reason(group.reason);
  return out;
}

v1::Model ModelFrom(const core::ClusterState& state, const core::Model& model) {
  const core::ModelSpec& spec = model.spec;
  v1::Model out;
  out.set_name(spec.name);
  for (const std::string& alias : spec.aliases) out.add_aliases(alias);
  out.set_path(spec.path);
  out.set_revision(spec.revision);
  out.set_task(spec.task);
  out.set_tensor_parallel(spec.tensor_parallel == 0 ? "auto" : absl::StrCat(spec.tensor_parallel));
  out.set_replicas_wanted(state.Wanted(model));
  out.set_replicas_ready(state.ReadyReplicas(model));
  out.set_max_model_len(spec.max_model_len);
  out.set_dtype(spec.dtype);
  for (core::GroupId group : model.groups) out.add_groups(GroupName(group));
  out.set_queued(model.queue.size());
  out.set_waits_for(model.waits_for);
  out.set_max_sequences(spec.max_sequences);
  out.set_replicas_min(spec.replicas_min);
  out.set_replicas_max(spec.replicas_max);
  for (core::GroupId id : model.groups) {
    const core::Group& group = *state.Find(id);
    if (group.outdated && group.Serves()) out.set_replicas_old(out.replicas_old() + 1);
  }
  out.set_leaving(model.undeployed);
  out.set_etag(Etag(spec));
  return out;
}

v1::Request RequestFrom(const core::ClusterState& state, const core::Request& request) {
  v1::Request out;
  out.set_name(absl::StrCat("requests/", ToHex(request.id)));
  out.set_model(state.At(request.model).spec.name);
  out.set_state(StateFrom(request.state));
  SetEpoch(request.attempt.leader, request.attempt.counter, out.mutable_attempt());
  if (request.group.value != 0) out.set_group(GroupName(request.group));
  out.set_prompt_tokens(request.prompt.value);
  out.set_output_tokens(request.output.value);
  out.set_max_tokens(request.max_tokens.value);
  out.set_priority(request.priority);
  out.set_tenant(request.tenant);
  out.set_age_ms(Milliseconds(state.now - request.arrived));
  if (const int position = state.QueuePosition(request); position > 0) out.set_queue_position(position - 1);
  out.set_preemptions(request.preemptions);
  out.set_outcome(request.outcome_text);
  return out;
}

}  // namespace tandem::scheduler
