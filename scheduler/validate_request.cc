#include "scheduler/validate_request.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/fnv1a.h"
#include "scheduler/chat_prompt.h"
#include "scheduler/ids.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::scheduler {
namespace {

// Each limit bounds memory or work per request; see the field comments of inference.proto.
constexpr int kMostStopStrings = 16;
constexpr size_t kLongestStopString = 256;
constexpr int kMostStopIds = 64;
constexpr uint32_t kMostLogprobs = 20;
constexpr uint32_t kLongestChunkIntervalMs = 10000;
constexpr size_t kLongestTenant = 64, kLongestSession = 128, kLongestKey = 128;
constexpr int kPriorityRange = 100;

Error Invalid(std::string message, const char* field) {
  return {kInvalidParameter, std::move(message), {}, {{"field", field}}};
}
Error Unsupported(std::string message, const char* field) {
  return {kUnsupportedParameter, std::move(message), {}, {{"field", field}}};
}

// The comparisons are written so that NaN fails them.
std::optional<Error> InRange(bool set, double value, double low, bool low_allowed, double high, const char* field) {
  if (!set) return std::nullopt;
  if ((low_allowed ? value >= low : value > low) && value <= high) return std::nullopt;
  return Invalid(absl::StrFormat("%s is %g; allowed are values %s %g and <= %g", field, value, low_allowed ? ">=" : ">",
                                 low, high),
                 field);
}

std::optional<Error> NotLonger(const std::string& text, size_t most, const char* field) {
  if (text.size() <= most) return std::nullopt;
  return Invalid(absl::StrFormat("%s has %d bytes; allowed are %d", field, text.size(), most), field);
}

std::optional<Error> ValidateSampling(const v1::SamplingParams& s) {
  if (auto e = InRange(s.has_temperature(), s.temperature(), 0, true, 2, "sampling.temperature")) return e;
  if (auto e = InRange(s.has_top_p(), s.top_p(), 0, false, 1, "sampling.top_p")) return e;
  if (auto e = InRange(s.has_min_p(), s.min_p(), 0, true, 1, "sampling.min_p")) return e;
  if (auto e = InRange(s.has_presence_penalty(), s.presence_penalty(), -2, true, 2, "sampling.presence_penalty")) {
    return e;
  }
  if (auto e = InRange(s.has_frequency_penalty(), s.frequency_penalty(), -2, true, 2, "sampling.frequency_penalty")) {
    return e;
  }
  if (auto e =
          InRange(s.has_repetition_penalty(), s.repetition_penalty(), 0, false, 10, "sampling.repetition_penalty")) {
    return e;
  }
  if (s.has_top_k() && s.top_k() < -1) {
    return Invalid(absl::StrCat("sampling.top_k is ", s.top_k(), "; allowed are 0 and -1 (off) and values >= 1"),
                   "sampling.top_k");
  }
  if (s.n() > 1) {
    return Unsupported(absl::StrCat("sampling.n is ", s.n(), "; one completion per request is served"), "sampling.n");
  }
  if (s.logit_bias_size() > 0) return Unsupported("sampling.logit_bias is not served", "sampling.logit_bias");
  return std::nullopt;
}

std::optional<Error> ValidateStopping(const v1::StoppingCriteria& s, const ModelLimits& model) {
  if (s.has_max_tokens() && s.max_tokens() == 0) {
    return Invalid("stopping.max_tokens is 0; allowed are values >= 1, or leave it out for what the context leaves",
                   "stopping.max_tokens");
  }
  if (s.has_max_tokens() && s.max_tokens() > model.max_model_len) {
    return Invalid(absl::StrFormat("stopping.max_tokens is %d; the context of model %s is %d tokens", s.max_tokens(),
                                   model.name, model.max_model_len),
                   "stopping.max_tokens");
  }
  const uint32_t most = s.has_max_tokens() ? s.max_tokens() : model.max_model_len;
  if (s.min_tokens() > most) {
    return Invalid(
        absl::StrFormat("stopping.min_tokens is %d, more than the most that may come, %d", s.min_tokens(), most),
        "stopping.min_tokens");
  }
  if (s.stop_size() > kMostStopStrings) {
    return Invalid(absl::StrFormat("stopping.stop has %d strings; allowed are %d", s.stop_size(), kMostStopStrings),
                   "stopping.stop");
  }
  for (int i = 0; i < s.stop_size(); ++i) {
    if (s.stop(i).empty() || s.stop(i).size() > kLongestStopString) {
      return Invalid(absl::StrFormat("stopping.stop[%d] has %d bytes; allowed are 1 to %d", i, s.stop(i).size(),
                                     kLongestStopString),
                     "stopping.stop");
    }
  }
  if (s.stop_token_ids_size() > kMostStopIds) {
    return Invalid(
        absl::StrFormat("stopping.stop_token_ids has %d ids; allowed are %d", s.stop_token_ids_size(), kMostStopIds),
        "stopping.stop_token_ids");
  }
  return ValidateIds(s.stop_token_ids(), "stopping.stop_token_ids", model);
}

std::optional<Error> ValidateChatFor(const ModelLimits& model, const v1::ChatPrompt& chat) {
  if (model.has_chat_template) return ValidateChat(chat);
  return Unsupported(absl::StrCat("model ", model.name,
                                  " has no chat template; send text or token_ids, or give it one as chat_template in "
                                  "the configuration"),
                     "chat");
}

std::optional<Error> ValidatePrompt(const v1::GenerateRequest& request, const ModelLimits& model) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (request.text().empty()) return Invalid("the prompt is empty; send at least one byte of text", "text");
      return ValidateUtf8(request.text(), "text");
    case v1::GenerateRequest::kTokenIds:
      if (request.token_ids().ids().empty()) {
        return Invalid("the prompt is empty; send at least one token id", "token_ids");
      }
      return ValidateIds(request.token_ids().ids(), "token_ids", model);
    case v1::GenerateRequest::kChat:
      return ValidateChatFor(model, request.chat());
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return Invalid("the request has no prompt; set text, token_ids or chat", "prompt");
}

float EffectiveTemperature(const v1::SamplingParams& s, const ModelLimits& model) {
  return s.has_temperature() ? s.temperature() : model.temperature.value_or(1.0f);
}

// All but the seed.
void FillSampling(const v1::SamplingParams& from, const ModelLimits& model, v1::SamplingParams* to) {
  const int32_t top_k = from.has_top_k() ? from.top_k() : model.top_k.value_or(0);
  to->set_temperature(EffectiveTemperature(from, model));
  to->set_top_p(from.has_top_p() ? from.top_p() : model.top_p.value_or(1.0f));
  to->set_top_k(top_k > 0 ? top_k : 0);
  to->set_min_p(from.min_p());
  to->set_presence_penalty(from.presence_penalty());
  to->set_frequency_penalty(from.frequency_penalty());
  to->set_repetition_penalty(from.has_repetition_penalty() ? from.repetition_penalty()
                                                           : model.repetition_penalty.value_or(1.0f));
  to->set_n(1);
}

}  // namespace

std::optional<Error> ValidateUtf8(const std::string& text, const char* field) {
  const auto offset = tokenizer::FindInvalidUtf8(text);
  if (!offset) return std::nullopt;
  return Error{kInvalidParameter,
               absl::StrFormat("%s is not valid UTF-8: a bad byte at offset %d of %d", field, *offset, text.size()),
               {},
               {{"field", field}, {"byte_offset", absl::StrCat(*offset)}}};
}

std::optional<Error> ValidateIds(const google::protobuf::RepeatedField<uint32_t>& ids, const char* field,
                                 const ModelLimits& model) {
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < model.vocab_size) continue;
    return Invalid(absl::StrFormat("%s[%d] is %d; model %s has the ids 0 to %d", field, i, ids[i], model.name,
                                   int64_t{model.vocab_size} - 1),
                   field);
  }
  return std::nullopt;
}

std::optional<Error> ValidateTokenize(const v1::TokenizeRequest& request, const ModelLimits& model) {
  if (!request.has_chat()) return ValidateUtf8(request.text(), "text");
  if (!request.text().empty()) return Invalid("the request has text and chat; set one of them", "chat");
  return ValidateChatFor(model, request.chat());
}

std::optional<Error> ValidateGenerate(const v1::GenerateRequest& request, const ModelLimits& model) {
  if (auto e = ValidateSampling(request.sampling())) return e;
  if (auto e = ValidateStopping(request.stopping(), model)) return e;
  if (request.has_logprobs() && request.logprobs() > kMostLogprobs) {
    return Invalid(absl::StrFormat("logprobs is %d; allowed are 0 to %d", request.logprobs(), kMostLogprobs),
                   "logprobs");
  }
  if (request.priority() < -kPriorityRange || request.priority() > kPriorityRange) {
    return Invalid(
        absl::StrFormat("priority is %d; allowed are %d to %d", request.priority(), -kPriorityRange, kPriorityRange),
        "priority");
  }
  if (auto e = NotLonger(request.tenant(), kLongestTenant, "tenant")) return e;
  if (auto e = NotLonger(request.session_id(), kLongestSession, "session_id")) return e;
  if (auto e = NotLonger(request.idempotency_key(), kLongestKey, "idempotency_key")) return e;
  if (request.chunk_interval_ms() > kLongestChunkIntervalMs) {
    return Invalid(absl::StrFormat("chunk_interval_ms is %d; allowed are 0 to %d", request.chunk_interval_ms(),
                                   kLongestChunkIntervalMs),
                   "chunk_interval_ms");
  }
  if (request.resume_token_ids_size() > 0) {
    if (auto e = ValidateIds(request.resume_token_ids(), "resume_token_ids", model)) return e;
    if (!request.sampling().has_seed() && EffectiveTemperature(request.sampling(), model) > 0) {
      return Invalid(
          "resume_token_ids without sampling.seed would go on with other draws; send the seed that Accepted "
          "named",
          "sampling.seed");
    }
  }
  return ValidatePrompt(request, model);
}

std::optional<Error> ValidateLengths(const v1::GenerateRequest& request, size_t prompt_tokens,
                                     const ModelLimits& model) {
  const size_t known = static_cast<size_t>(request.resume_token_ids_size());
  const auto& stopping = request.stopping();
  if (prompt_tokens == 0) return Invalid("the prompt has no tokens", "prompt");
  const size_t room = model.max_model_len > prompt_tokens ? model.max_model_len - prompt_tokens : 0;
  if (room == 0 || (stopping.has_max_tokens() && stopping.max_tokens() > room)) {
    std::string wanted = stopping.has_max_tokens() ? absl::StrCat(" and max_tokens is ", stopping.max_tokens()) : "";
    return Error{
        kContextLengthExceeded,
        absl::StrFormat("the prompt has %d tokens%s; the context of model %s is %d tokens, prompt and "
                        "completion together",
                        prompt_tokens, wanted, model.name, model.max_model_len),
        {},
        {{"prompt_tokens", absl::StrCat(prompt_tokens)}, {"max_model_len", absl::StrCat(model.max_model_len)}}};
  }
  const size_t most = stopping.has_max_tokens() ? stopping.max_tokens() : room;
  if (known >= most) {
    return Invalid(absl::StrFormat("resume_token_ids has %d ids; max_tokens or the context leaves %d, so nothing is "
                                   "left to compute",
                                   known, most),
                   "resume_token_ids");
  }
  return std::nullopt;
}

uint64_t Fingerprint(const v1::GenerateRequest& request, const ModelLimits& model) {
  Fnv1a hash;
  const auto take = [&hash](absl::string_view part) {  // each with its length: what ends one begins no other
    const auto size = static_cast<uint64_t>(part.size());
    for (int shift = 0; shift < 64; shift += 8) hash.Add(static_cast<uint8_t>(size >> shift));
    hash.Add({part.data(), part.size()});
  };
  take(model.name);
  take(absl::StrCat(static_cast<int>(request.prompt_case())));
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      take(request.text());
      break;
    case v1::GenerateRequest::kTokenIds:
      take(request.token_ids().SerializeAsString());
      break;
    case v1::GenerateRequest::kChat:
      take(request.chat().SerializeAsString());
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  // No message here has a map, so equal ones have equal bytes.
  v1::SamplingParams sampling;
  FillSampling(request.sampling(), model, &sampling);
  take(sampling.SerializeAsString());
  v1::StoppingCriteria stopping = request.stopping();
  stopping.DiscardUnknownFields();
  take(stopping.SerializeAsString());
  take(request.has_logprobs() ? absl::StrCat(request.logprobs()) : "");
  return std::max<uint64_t>(hash.value(), 1);
}

void FillAssignment(const v1::GenerateRequest& request, const ModelLimits& model, v1::AssignRequest* out) {
  FillSampling(request.sampling(), model, out->mutable_sampling());
  out->mutable_sampling()->set_seed(request.sampling().has_seed() ? request.sampling().seed() : RandomSeed());

  const auto& stopping = request.stopping();
  out->set_min_tokens(stopping.min_tokens());
  out->set_ignore_eos(stopping.ignore_eos());
  *out->mutable_stop_token_ids() = stopping.stop_token_ids();
  *out->mutable_stop() = stopping.stop();
  *out->mutable_output_ids() = request.resume_token_ids();
  if (request.has_logprobs()) out->set_logprobs(request.logprobs());
  out->set_priority(request.priority());
  out->set_tenant(request.tenant());
  out->set_idempotency_key(request.idempotency_key());
}

}  // namespace tandem::scheduler
