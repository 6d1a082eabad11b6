#include "worker/translate.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

constexpr int kCacheHashesPerMessage = 256;
constexpr uint32_t kMostLogprobs = 1024;
// A hundred years are as good as any longer time, and can be added.
constexpr uint64_t kLongestMs = uint64_t{100} * 365 * 24 * 3600 * 1000;

absl::Status Bad(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", what));
}

GroupEpoch FromProto(const v1::Epoch& epoch) { return {.leader = epoch.leader(), .counter = epoch.counter()}; }

GroupRef FromProto(const v1::GroupKey& key) { return {.id = key.group_id(), .epoch = FromProto(key.epoch())}; }

absl::StatusOr<AttemptId> FromProto(const v1::AttemptKey& key) {
  AttemptId id{.attempt = FromProto(key.attempt())};
  if (key.request_id().size() != id.request.size()) {
    return Bad("key.request_id", absl::StrCat(key.request_id().size(), " bytes, expected 16"));
  }
  std::copy(key.request_id().begin(), key.request_id().end(), id.request.begin());
  return id;
}

// Ids beyond the signed range can be in no vocabulary; the engine refuses -1 by name.
TokenId FromWire(uint32_t id) {
  return id > static_cast<uint32_t>(std::numeric_limits<TokenId>::max()) ? -1 : static_cast<TokenId>(id);
}

template <typename Repeated>
std::vector<TokenId> TokensFrom(const Repeated& ids) {
  std::vector<TokenId> tokens;
  tokens.reserve(ids.size());
  for (uint32_t id : ids) tokens.push_back(FromWire(id));
  return tokens;
}

absl::StatusOr<Sampling> SamplingFrom(const v1::SamplingParams& p) {
  Sampling s{.temperature = p.temperature(),
             .top_p = p.has_top_p() ? p.top_p() : 1.0f,
             .top_k = p.top_k(),
             .min_p = p.min_p(),
             .presence_penalty = p.presence_penalty(),
             .frequency_penalty = p.frequency_penalty(),
             .repetition_penalty = p.has_repetition_penalty() ? p.repetition_penalty() : 1.0f,
             .seed = p.seed()};
  // Negated, so that NaN is caught.
  if (!(s.temperature >= 0)) return Bad("sampling.temperature", "expected 0 or more");
  if (!(s.top_p > 0 && s.top_p <= 1)) return Bad("sampling.top_p", "expected more than 0, at most 1");
  if (!(s.min_p >= 0 && s.min_p <= 1)) return Bad("sampling.min_p", "expected 0 to 1");
  if (!(s.repetition_penalty > 0)) return Bad("sampling.repetition_penalty", "expected more than 0");
  for (float penalty : {s.presence_penalty, s.frequency_penalty}) {
    if (!(penalty >= -100 && penalty <= 100)) return Bad("sampling penalties", "expected -2 to 2");
  }
  return s;
}

// What is not known of a position stays so.
PositionLogprobs LogprobsFrom(const v1::PositionLogprobs& from) {
  if (!from.has_chosen()) return UnknownLogprobs();
  PositionLogprobs to{.chosen = {FromWire(from.chosen().token_id()), from.chosen().logprob()}};
  for (const v1::TokenLogprob& top : from.top()) to.top.push_back({FromWire(top.token_id()), top.logprob()});
  return to;
}

absl::StatusOr<Request> RequestFrom(const v1::AssignRequest& m, SteadyTime now) {
  absl::StatusOr<AttemptId> id = FromProto(m.key());
  if (!id.ok()) return id.status();
  absl::StatusOr<Sampling> sampling = SamplingFrom(m.sampling());
  if (!sampling.ok()) return sampling.status();
  Request request{.id = *id,
                  .prompt = TokensFrom(m.prompt_ids()),
                  .output = TokensFrom(m.output_ids()),
                  .sampling = *sampling,
                  .max_tokens = m.max_tokens(),
                  .min_tokens = m.min_tokens(),
                  .stop_token_ids = TokensFrom(m.stop_token_ids()),
                  .ignore_eos = m.ignore_eos(),
                  .priority = m.priority(),
                  .cache_salt = m.cache_salt(),
                  .second_text_at = m.second_text_at(),
                  .image = m.image(),
                  .stop = {m.stop().begin(), m.stop().end()},
                  .tenant = m.tenant(),
                  .idempotency_key = m.idempotency_key(),
                  .token_sink = m.token_sink(),
                  .model = m.model(),
                  .model_revision = m.model_revision(),
                  .chunk_interval_ms = m.chunk_interval_ms(),
                  .fingerprint = m.fingerprint(),
                  .caller_id = m.caller_id(),
                  .trace_id = m.trace_id(),
                  .arrived = now - std::chrono::milliseconds(std::min(m.age_ms(), kLongestMs))};
  if (m.output_logprobs_size() != 0 && m.output_logprobs_size() != m.output_ids_size()) {
    return Bad("output_logprobs", absl::StrCat(m.output_logprobs_size(), " for ", m.output_ids_size(), " tokens"));
  }
  for (const v1::PositionLogprobs& position : m.output_logprobs()) {
    request.output_logprobs.push_back(LogprobsFrom(position));
  }
  if (m.has_logprobs()) request.logprobs = std::min(m.logprobs(), kMostLogprobs);
  if (m.deadline_ms() != 0) request.deadline = now + std::chrono::milliseconds(std::min(m.deadline_ms(), kLongestMs));
  return request;
}

absl::StatusOr<FormGroup> FormFrom(const v1::FormGroup& m) {
  FormGroup form;
  GroupIdentity& identity = form.identity;
  identity.group_id = m.group().group_id();
  identity.epoch = FromProto(m.group().epoch());
  if (m.size() > static_cast<uint32_t>(kMaxRanks) || m.rank() >= std::max<uint32_t>(m.size(), 1)) {
    return Bad("form_group.rank", absl::StrCat(m.rank(), " of ", m.size(), ", a group has at most ", kMaxRanks));
  }
  identity.rank = static_cast<int>(m.rank());
  identity.size = static_cast<int>(m.size());
  identity.endpoints.assign(m.endpoints().begin(), m.endpoints().end());
  if (m.secret().size() != identity.secret.size()) {
    return Bad("form_group.secret", absl::StrCat(m.secret().size(), " bytes, expected 16"));
  }
  std::copy(m.secret().begin(), m.secret().end(), identity.secret.begin());
  if (m.deadline_ms() != 0) identity.deadline = absl::Milliseconds(m.deadline_ms());
  return form;
}

LoadModel LoadFrom(const v1::LoadModel& m) {
  LoadModel load{.group = FromProto(m.group())};
  LoadSpec& spec = load.spec;
  spec.model = m.model();
  spec.path = m.path();
  for (const v1::FileEntry& file : m.manifest()) {
    spec.manifest.push_back({.name = file.name(), .bytes = file.size_bytes(), .sha256 = file.sha256()});
  }
  if (!m.task().empty()) spec.task = m.task();
  spec.dtype = m.dtype().empty() ? "auto" : m.dtype();
  spec.max_model_len = m.max_model_len();
  spec.max_sequences = m.max_sequences();
  spec.max_batch_tokens = m.max_batch_tokens();
  // Sums and products of these are taken in 64 signed bits.
  constexpr uint64_t kMostBytes = uint64_t{1} << 60;
  spec.kv_min_bytes = std::min(m.kv_min_bytes(), kMostBytes);
  spec.kv_target_bytes = std::min(m.kv_target_bytes(), kMostBytes);
  spec.step_budget_ms = m.step_budget_ms();
  spec.prefix_cache = m.prefix_cache();
  spec.deployment = m.deployment();
  return load;
}

v1::GroupFailed::Reason ToProto(FailureReason reason) {
  switch (reason) {
    case FailureReason::kBootstrap:
      return v1::GroupFailed::BOOTSTRAP;
    case FailureReason::kModelUnusable:
      return v1::GroupFailed::MODEL_UNUSABLE;
    case FailureReason::kModelMismatch:
      return v1::GroupFailed::MODEL_MISMATCH;
    case FailureReason::kNeverFits:
      return v1::GroupFailed::NEVER_FITS;
    case FailureReason::kNoCapacity:
      return v1::GroupFailed::NO_CAPACITY;
    case FailureReason::kPeerLost:
      return v1::GroupFailed::PEER_LOST;
    case FailureReason::kCommunicator:
      return v1::GroupFailed::COMMUNICATOR;
    case FailureReason::kEngineFault:
      return v1::GroupFailed::ENGINE_FAULT;
    case FailureReason::kAborted:
      return v1::GroupFailed::ABORTED;
    case FailureReason::kStaleEpoch:
      return v1::GroupFailed::STALE_EPOCH;
    case FailureReason::kBusy:
      return v1::GroupFailed::BUSY;
  }
  return v1::GroupFailed::REASON_UNSPECIFIED;
}

v1::Ended::How ToProto(Ended::How how) {
  switch (how) {
    case Ended::How::kStopped:
      return v1::Ended::STOPPED;
    case Ended::How::kLengthReached:
      return v1::Ended::LENGTH_REACHED;
    case Ended::How::kAborted:
      return v1::Ended::ABORTED;
    case Ended::How::kRefused:
      return v1::Ended::REFUSED;
    case Ended::How::kFault:
      return v1::Ended::FAULT;
  }
  return v1::Ended::HOW_UNSPECIFIED;
}

void Fill(const LoadedShard& shard, v1::MemoryLedger& ledger) {
  ledger.set_weight_bytes(shard.memory.weight_bytes);
  ledger.set_packed_bytes(shard.memory.packed_bytes);
  ledger.set_activation_bytes(shard.memory.activation_bytes);
  ledger.set_kv_bytes(shard.memory.kv_bytes);
  ledger.set_measured_growth_bytes(shard.measured_growth_bytes);
}

void Fill(const TokenLogprob& from, v1::TokenLogprob& to) {
  to.set_token_id(from.token);
  to.set_logprob(from.logprob);
}

void Fill(const PositionLogprobs& from, v1::PositionLogprobs& to) {
  if (from.chosen.token < 0) return;
  Fill(from.chosen, *to.mutable_chosen());
  for (const TokenLogprob& top : from.top) Fill(top, *to.add_top());
}

void Fill(const Sampling& from, v1::SamplingParams& to) {
  to.set_temperature(from.temperature);
  to.set_top_p(from.top_p);
  to.set_top_k(from.top_k);
  to.set_min_p(from.min_p);
  to.set_presence_penalty(from.presence_penalty);
  to.set_frequency_penalty(from.frequency_penalty);
  to.set_repetition_penalty(from.repetition_penalty);
  to.set_seed(from.seed);
  to.set_n(1);
}

// The request as it was assigned, but for its known output, which follows as tokens.
void Fill(const Request& from, const GroupRef& group, SteadyTime now, v1::AssignRequest& to) {
  const auto ms_since = [](SteadyTime begin, SteadyTime end) {
    return static_cast<uint64_t>(
        std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(end - begin).count()));
  };
  *to.mutable_key() = tandem::worker::ToProto(from.id);
  *to.mutable_group() = tandem::worker::ToProto(group);
  to.mutable_prompt_ids()->Add(from.prompt.begin(), from.prompt.end());
  Fill(from.sampling, *to.mutable_sampling());
  to.set_max_tokens(from.max_tokens);
  to.set_min_tokens(from.min_tokens);
  to.mutable_stop_token_ids()->Add(from.stop_token_ids.begin(), from.stop_token_ids.end());
  to.set_ignore_eos(from.ignore_eos);
  to.mutable_stop()->Add(from.stop.begin(), from.stop.end());
  if (from.logprobs) to.set_logprobs(*from.logprobs);
  to.set_priority(from.priority);
  to.set_tenant(from.tenant);
  to.set_idempotency_key(from.idempotency_key);
  if (from.deadline) to.set_deadline_ms(std::max<uint64_t>(1, ms_since(now, *from.deadline)));  // 0 means none
  to.set_cache_salt(from.cache_salt);
  to.set_token_sink(from.token_sink);
  to.set_model(from.model);
  to.set_model_revision(from.model_revision);
  to.set_chunk_interval_ms(from.chunk_interval_ms);
  to.set_fingerprint(from.fingerprint);
  to.set_caller_id(from.caller_id);
  to.set_trace_id(from.trace_id);
  to.set_age_ms(ms_since(from.arrived, now));
  to.set_second_text_at(from.second_text_at);
}

// One overload for each alternative: a new report that is not translated does not compile.
struct ControlFiller {
  v1::AttachRequest& out;

  void operator()(const GroupFormed& r) const {
    *out.mutable_group_formed()->mutable_group() = tandem::worker::ToProto(r.group);
    out.mutable_group_formed()->set_rank(r.rank);
  }
  void operator()(const ModelLoaded& r) const {
    v1::ModelLoaded& to = *out.mutable_model_loaded();
    *to.mutable_group() = tandem::worker::ToProto(r.group);
    to.set_rank(r.rank);
    Fill(r.shard, *to.mutable_memory());
    to.set_numerics_id(r.shard.numerics_id);
  }
  void operator()(const GroupReady& r) const {
    v1::GroupReady& to = *out.mutable_group_ready();
    *to.mutable_group() = tandem::worker::ToProto(r.group);
    to.set_kv_blocks(r.kv_blocks);
    to.set_block_tokens(kBlockTokens);
    to.set_max_sequences(r.max_sequences);
    to.set_max_model_len(r.max_model_len);
    to.set_numerics_id(r.shard.numerics_id);
    Fill(r.shard, *to.mutable_memory());
  }
  void operator()(const GroupFailed& r) const {
    v1::GroupFailed& to = *out.mutable_group_failed();
    *to.mutable_group() = tandem::worker::ToProto(r.group);
    to.set_rank(r.rank);
    to.set_reason(ToProto(r.failure.reason));
    to.set_message(r.failure.message);
  }
  void operator()(const GroupLeft& r) const {
    *out.mutable_group_left()->mutable_group() = tandem::worker::ToProto(r.group);
    out.mutable_group_left()->set_rank(r.rank);
  }
  void operator()(const CacheChanged&) const { LOG(FATAL) << "cache changes go by CacheMessages"; }
  void operator()(const StepDone&) const { LOG(FATAL) << "steps go by TokensMessage"; }
};

}  // namespace

v1::GroupKey ToProto(const GroupRef& group) {
  v1::GroupKey key;
  key.set_group_id(group.id);
  key.mutable_epoch()->set_leader(group.epoch.leader);
  key.mutable_epoch()->set_counter(group.epoch.counter);
  return key;
}

v1::AttemptKey ToProto(const AttemptId& id) {
  v1::AttemptKey key;
  key.set_request_id(id.request.data(), id.request.size());
  key.mutable_attempt()->set_leader(id.attempt.leader);
  key.mutable_attempt()->set_counter(id.attempt.counter);
  return key;
}

absl::StatusOr<std::optional<Command>> CommandFrom(const v1::AttachResponse& message, SteadyTime now) {
  switch (message.command_case()) {
    case v1::AttachResponse::kFormGroup: {
      absl::StatusOr<FormGroup> form = FormFrom(message.form_group());
      if (!form.ok()) return form.status();
      return Command(*std::move(form));
    }
    case v1::AttachResponse::kLoadModel:
      return Command(LoadFrom(message.load_model()));
    case v1::AttachResponse::kDissolveGroup:
      return Command(DissolveGroup{FromProto(message.dissolve_group().group())});
    case v1::AttachResponse::kAbortGroup:
      return Command(AbortGroup{FromProto(message.abort_group().group()), message.abort_group().reason()});
    case v1::AttachResponse::kAssignRequest: {
      absl::StatusOr<Request> request = RequestFrom(message.assign_request(), now);
      if (!request.ok()) return request.status();
      return Command(AssignRequest{FromProto(message.assign_request().group()), *std::move(request)});
    }
    case v1::AttachResponse::kAbortAttempt: {
      const v1::AbortAttempt& abort = message.abort_attempt();
      absl::StatusOr<AttemptId> id = FromProto(abort.key());
      if (!id.ok()) return id.status();
      return Command(AbortAttempt{FromProto(abort.group()), *id, abort.reason()});
    }
    case v1::AttachResponse::kAcknowledgeEnd: {
      AcknowledgeEnd acknowledge;
      for (const v1::AttemptKey& key : message.acknowledge_end().keys()) {
        absl::StatusOr<AttemptId> id = FromProto(key);
        if (!id.ok()) return id.status();
        acknowledge.ids.push_back(*id);
      }
      return Command(std::move(acknowledge));
    }
    case v1::AttachResponse::kWelcome:
    case v1::AttachResponse::kMeasureLink:
    case v1::AttachResponse::kPark:
    case v1::AttachResponse::COMMAND_NOT_SET:
      break;
  }
  return std::nullopt;
}

absl::StatusOr<ProbeOrder> ProbeFrom(const v1::MeasureLink& m) {
  ProbeOrder order{.probe = m.probe(), .peer_uuid = m.peer_uuid()};
  GroupIdentity& identity = order.identity;
  // Apart from all true groups, whose numbers have the leader epoch above and a counter below.
  constexpr uint64_t kProbes = uint64_t{1} << 63;
  identity.group_id = kProbes | m.probe();
  identity.epoch = {.leader = m.leader_epoch(), .counter = 1};
  if (m.rank() > 1) return Bad("measure_link.rank", absl::StrCat(m.rank(), ", a probe has ranks 0 and 1"));
  identity.rank = static_cast<int>(m.rank());
  identity.size = 2;
  identity.endpoints.assign(m.endpoints().begin(), m.endpoints().end());
  if (m.secret().size() != identity.secret.size()) {
    return Bad("measure_link.secret", absl::StrCat(m.secret().size(), " bytes, expected 16"));
  }
  std::copy(m.secret().begin(), m.secret().end(), identity.secret.begin());
  if (m.deadline_ms() != 0) identity.deadline = absl::Milliseconds(m.deadline_ms());
  if (absl::Status status = identity.Validate(); !status.ok()) return status;
  return order;
}

v1::AttachRequest HealthMessage(const HealthReport& report) {
  v1::AttachRequest message;
  v1::DeviceHealth& health = *message.mutable_device_health();
  health.set_code(report.code);
  health.set_message(report.message);
  health.set_lasting(report.lasting);
  health.set_cleared(report.cleared);
  return message;
}

v1::AttachRequest ProbeMessage(const ProbeReport& report) {
  v1::AttachRequest message;
  v1::LinkMeasured& measured = *message.mutable_link_measured();
  measured.set_peer_uuid(report.peer_uuid);
  measured.set_probe(report.probe);
  if (report.figures.ok()) {
    measured.set_small_message_ns(report.figures->small_ns);
    measured.set_bandwidth_bytes_per_s(report.figures->bytes_per_second);
  } else {
    const absl::string_view why = report.figures.status().message();
    measured.set_error(why.data(), why.size());
  }
  return message;
}

v1::AttachRequest ControlMessage(const Report& report) {
  v1::AttachRequest message;
  std::visit(ControlFiller{message}, report);
  return message;
}

std::vector<v1::AttachRequest> CacheMessages(const CacheChanged& report) {
  std::vector<v1::AttachRequest> messages;
  int room = 0;
  auto next = [&]() -> v1::CacheChanged& {
    if (room == 0) {
      room = kCacheHashesPerMessage;
      *messages.emplace_back().mutable_cache_changed()->mutable_group() = ToProto(report.group);
    }
    --room;
    return *messages.back().mutable_cache_changed();
  };
  if (report.whole) next().set_whole(true), ++room;
  for (const BlockHash& hash : report.changes.evicted) next().add_evicted(hash.data(), hash.size());
  for (const BlockHash& hash : report.changes.stored) next().add_stored(hash.data(), hash.size());
  return messages;
}

v1::TokensRequest TokensMessage(const StepDone& report, SteadyTime now, absl::string_view incarnation) {
  v1::TokensRequest message;
  *message.mutable_group() = ToProto(report.group);
  message.set_step(report.step);
  for (const RequestUpdate& update : report.updates) {
    v1::RequestUpdate& out = *message.add_updates();
    *out.mutable_key() = ToProto(update.id);
    if (const auto* started = std::get_if<Started>(&update.what)) {
      out.mutable_started()->set_cached_tokens(started->cached_tokens);
    } else if (const auto* produced = std::get_if<Produced>(&update.what)) {
      v1::Produced& to = *out.mutable_produced();
      to.set_first_index(produced->first_index);
      for (TokenId token : produced->tokens) to.add_token_ids(token);
      for (const PositionLogprobs& position : produced->logprobs) Fill(position, *to.add_logprobs());
    } else if (const auto* preempted = std::get_if<Preempted>(&update.what)) {
      out.mutable_preempted()->set_computed_tokens(preempted->computed_tokens);
    } else if (const auto* held = std::get_if<Held>(&update.what)) {
      v1::Held& to = *out.mutable_held();
      message.set_incarnation(incarnation.data(), incarnation.size());
      Fill(*held->request, report.group, now, *to.mutable_request());
      to.set_ended(held->ended);
      to.set_output_tokens(held->output_tokens);
      to.set_numerics_id(held->numerics_id);
    } else {
      const Ended& ended = std::get<Ended>(update.what);
      v1::Ended& to = *out.mutable_ended();
      to.set_how(ToProto(ended.how));
      if (ended.stop_token) to.set_stop_token_id(*ended.stop_token);
      to.set_output_tokens(ended.output_tokens);
      to.set_message(ended.message);
      to.set_vector(ended.vector);
      to.set_unreadable(ended.unreadable);
    }
  }
  return message;
}

void FillDeviceFacts(const Device& device, v1::DeviceFacts& facts) {
  facts.set_node(device.node());
  facts.set_index(device.index());
  facts.set_kind(device.kind());
  facts.set_model(device.model());
  facts.set_uuid(device.uuid());
  facts.set_pci_bus_id(device.pci_bus_id());
  facts.set_numa_node(device.numa_node());
  facts.set_memory_total_bytes(device.memory_total());
  facts.set_memory_free_bytes(device.FreeOfTotal());
  facts.set_memory_process_bytes(device.HeldBytes());
  facts.set_memory_utilization(device.memory_utilization());
  facts.set_threads(device.threads());
  for (const Device::Peer& peer : device.peers()) {
    v1::LinkFacts& link = *facts.add_links();
    link.set_peer_uuid(peer.uuid);
    link.set_kind(placement::Word(peer.link));
    link.set_nvlinks(peer.nvlinks);
    link.set_source(peer.source);
  }
}

v1::HeldShard HeldShardFrom(const ShardStatus& status, const std::vector<HeldRequest>& requests) {
  v1::HeldShard shard;
  *shard.mutable_group() = ToProto(status.group);
  shard.set_rank(status.rank);
  shard.set_size(status.size);
  shard.set_model(status.model);
  shard.set_model_revision(status.revision);
  shard.set_deployment(status.deployment);
  shard.set_numerics_id(status.numerics_id);
  shard.set_ready(status.ready);
  shard.set_kv_blocks(status.kv_blocks);
  for (const HeldRequest& held : requests) {
    v1::HeldRequest& request = *shard.add_requests();
    *request.mutable_key() = ToProto(held.id);
    request.set_prompt_tokens(held.prompt_tokens);
    request.set_output_tokens(held.output_tokens);
    request.set_ended(held.ended);
  }
  return shard;
}

v1::ShardLoad LoadFrom(const ShardStatus& status) {
  v1::ShardLoad load;
  *load.mutable_group() = ToProto(status.group);
  load.set_progress(status.progress);
  load.set_busy(status.busy);
  if (status.rank != 0) return load;
  load.set_free_blocks(status.free_blocks);
  load.set_cached_blocks(status.cached_blocks);
  load.set_running(status.running);
  load.set_waiting(status.waiting);
  load.set_steps(status.steps);
  load.set_preemptions(status.preemptions);
  load.set_step_us_ewma(static_cast<uint64_t>(status.step_us_mean));
  load.set_step_tokens_ewma(static_cast<uint64_t>(std::ceil(status.step_tokens_mean)));
  return load;
}

}  // namespace tandem::worker
