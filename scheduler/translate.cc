#include "scheduler/translate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/prefix_landmarks.h"
#include "placement/topology/topology.h"
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

}  // namespace

void SetEpoch(uint64_t leader, uint32_t counter, v1::Epoch* out) {
  out->set_leader(leader);
  out->set_counter(counter);
}

uint64_t ToMilliseconds(core::Duration d) { return static_cast<uint64_t>(std::max<int64_t>(d.us, 0)) / 1000; }

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

std::optional<core::GroupId> GroupIdFrom(absl::string_view name) {
  absl::ConsumePrefix(&name, "groups/");
  core::GroupId id;
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(name, absl::MaxSplits('.', 1));
  if (parts.second.empty()) return absl::SimpleAtoi(name, &id.value) ? std::optional(id) : std::nullopt;
  uint32_t leader, number;
  if (!absl::SimpleAtoi(parts.first, &leader) || !absl::SimpleAtoi(parts.second, &number)) return std::nullopt;
  id.value = uint64_t{leader} << 32 | number;
  return id;
}

}  // namespace tandem::scheduler
