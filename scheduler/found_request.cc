#include "scheduler/found_request.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/prefix_hash/prefix_hash.h"
#include "scheduler/ids.h"
#include "scheduler/translate.h"
#include "scheduler/validate_request.h"

namespace tandem::scheduler {
namespace {

// A year is as good as any longer time, and can be added.
constexpr uint64_t kLongestMs = uint64_t{365} * 24 * 3600 * 1000;

core::Duration FromMs(uint64_t ms) { return core::Milliseconds(static_cast<int64_t>(std::min(ms, kLongestMs))); }

absl::Status Check(const v1::AssignRequest& request, const ServedModel* model) {
  if (model == nullptr) {
    return absl::NotFoundError(absl::StrCat("model ", request.model().substr(0, 128), " is not configured any more"));
  }
  if (model->encoder) return absl::UnavailableError("the call that asked for a vector has ended with its scheduler");
  if (request.model_revision() != model->spec.revision) {
    return absl::FailedPreconditionError(absl::StrCat("the files of model ", model->spec.name, " have changed"));
  }
  if (const auto bad = ValidateIds(request.prompt_ids(), "prompt_ids", model->limits)) {
    return absl::InvalidArgumentError(bad->message);
  }
  const uint64_t longest = uint64_t{static_cast<uint32_t>(request.prompt_ids_size())} + request.max_tokens();
  if (request.prompt_ids().empty() || request.max_tokens() == 0 || longest > model->limits.max_model_len) {
    return absl::InvalidArgumentError(absl::StrCat(request.prompt_ids_size(), " and ", request.max_tokens(),
                                                   " tokens in a context of ", model->limits.max_model_len));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FoundRequest> FoundFrom(const v1::Held& held, core::DeviceId rank0, const ModelCatalog& catalog,
                                       RequestMetrics* metrics, core::Instant now) {
  const v1::AssignRequest& request = held.request();
  const auto id = RequestIdFromBytes(request.key().request_id());
  if (!id) return absl::InvalidArgumentError("its id is not 16 bytes");
  const ServedModelPtr held_model = catalog.FindNamed(request.model());
  const ServedModel* model = held_model.get();
  if (absl::Status status = Check(request, model); !status.ok()) return status;

  const auto* ids = reinterpret_cast<const int32_t*>(request.prompt_ids().data());  // below the vocabulary's size
  const absl::Span<const int32_t> prompt(ids, static_cast<size_t>(request.prompt_ids_size()));
  RequestStream::Facts facts;
  facts.id = *id;
  facts.model = model->spec.name;
  facts.model_revision = model->spec.revision;
  facts.tenant = request.tenant();
  facts.idempotency_key = request.idempotency_key();
  facts.fingerprint = request.fingerprint();
  facts.prompt_tokens = request.prompt_ids_size();
  facts.vocab_size = model->limits.vocab_size;
  facts.logprobs = request.has_logprobs();
  facts.seed = request.sampling().seed();
  facts.chunk_interval = FromMs(request.chunk_interval_ms());
  facts.arrived = now + core::Duration{-FromMs(request.age_ms()).us};
  facts.tokenizer = model->tokenizer;
  facts.stop.assign(request.stop().begin(), request.stop().end());
  facts.continues_text = model->tokenizer->HasText(prompt);
  facts.caller = CheckedCallerIds(request.caller_id(), request.trace_id());
  facts.counted_output = held.output_tokens();
  if (metrics != nullptr && !held.ended()) facts.flow = metrics->FlowOf(facts.model, facts.tenant);
  facts.origin = held.ended() ? RequestStream::Origin::kFoundEnded : RequestStream::Origin::kFound;

  FoundRequest found;
  found.assignment.attempt = AttemptFrom(request.key());
  found.assignment.group = {request.group().group_id()};
  found.assignment.epoch = {request.group().epoch().leader(), request.group().epoch().counter()};
  found.assignment.rank0 = rank0;
  found.assignment.max_tokens = request.max_tokens();
  found.assignment.numerics_id = held.numerics_id();

  core::RequestFound& event = found.event;
  event.request = *id;
  event.attempt = found.assignment.attempt;
  event.group = found.assignment.group;
  event.epoch = found.assignment.epoch;
  event.rank0 = rank0;
  event.model = facts.model;
  event.prompt = {request.prompt_ids_size()};
  event.output = {std::min(held.output_tokens(), request.max_tokens())};
  event.max_tokens = {request.max_tokens()};
  event.numerics_id = held.numerics_id();
  if (request.deadline_ms() != 0) event.deadline = FromMs(request.deadline_ms());
  event.age = FromMs(request.age_ms());
  event.priority = request.priority();
  event.tenant = request.tenant();
  event.prefix = PrefixLandmarks(request.cache_salt(), prompt);
  event.caller_id = facts.caller.id;
  event.trace_id = facts.caller.trace;

  v1::AssignRequest payload = request;
  payload.clear_output_ids();
  payload.clear_output_logprobs();
  payload.clear_deadline_ms();  // the core keeps it from here on
  event.bytes = {static_cast<int64_t>(payload.SpaceUsedLong())};
  found.stream = std::make_shared<RequestStream>(std::move(facts), std::move(payload));
  found.stream->OnFound(found.assignment);
  return found;
}

}  // namespace tandem::scheduler
