// What completions and chats have in common; see ReadCommon in completion_request.h.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/gateway/completion_request.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

constexpr size_t kMostStops = 64;  // the scheduler's own limit is lower and says so
constexpr int64_t kMostTokens = UINT32_MAX;
constexpr size_t kLongestSession = 128;

bool Anything(const json&) { return true; }
bool NotEmpty(const json& value) { return !value.empty(); }
bool True(const json& value) { return !value.is_boolean() || value.get<bool>(); }
bool False(const json& value) { return !value.is_boolean() || !value.get<bool>(); }
bool NotTextFormat(const json& value) { return !value.is_object() || value.value("type", json()) != "text"; }
bool NotTextOnly(const json& value) { return value != json::array({"text"}); }

struct Refusal {
  const char* name;
  bool (*refused)(const json& value);
  const char* why;
};

// In the order in which they are looked at.
constexpr Refusal kRefusals[] = {
    {"response_format", NotTextFormat, "output is free text; leave it out or send {\"type\": \"text\"}"},
    {"logit_bias", NotEmpty, "leave it out"},
    {"modalities", NotTextOnly, "output is text; leave it out or send [\"text\"]"},
    {"audio", Anything, "output is text; leave it out"},
    {"web_search_options", Anything, "nothing is fetched from anywhere; leave it out"},
    {"guided_json", Anything, "output is free text; leave it out"},
    {"guided_regex", Anything, "output is free text; leave it out"},
    {"guided_choice", Anything, "output is free text; leave it out"},
    {"guided_grammar", Anything, "output is free text; leave it out"},
    {"structured_outputs", NotEmpty, "output is free text; leave it out"},
    {"use_beam_search", True, "sampling is; leave it out"},
    {"prompt_logprobs", Anything, "logprobs are of the completion; leave it out"},
    {"prompt_embeds", Anything, "send text or token ids as prompt"},
    {"truncate_prompt_tokens", Anything, "prompts are never cut; shorten it, or leave this out to be told its length"},
    {"skip_special_tokens", False, "special tokens are never part of the text; leave it out"},
    {"bad_words", NotEmpty, "leave it out"},
    {"allowed_token_ids", NotEmpty, "leave it out"},
    {"logits_processors", NotEmpty, "leave it out"},
};

void ReadSampling(Fields& fields, v1::SamplingParams* out) {
  if (const auto v = fields.Number("temperature")) out->set_temperature(static_cast<float>(*v));
  if (const auto v = fields.Number("top_p")) out->set_top_p(static_cast<float>(*v));
  if (const auto v = fields.Number("min_p")) out->set_min_p(static_cast<float>(*v));
  if (const auto v = fields.Integer("top_k", INT32_MIN, INT32_MAX)) out->set_top_k(static_cast<int32_t>(*v));
  if (const auto v = fields.Number("presence_penalty")) out->set_presence_penalty(static_cast<float>(*v));
  if (const auto v = fields.Number("frequency_penalty")) out->set_frequency_penalty(static_cast<float>(*v));
  if (const auto v = fields.Number("repetition_penalty")) out->set_repetition_penalty(static_cast<float>(*v));
  if (const auto v = fields.Integer("seed", INT64_MIN, INT64_MAX)) out->set_seed(static_cast<uint64_t>(*v));
}

void ReadStopping(Fields& fields, v1::StoppingCriteria* out) {
  for (std::string& stop : fields.Strings("stop", kMostStops)) out->add_stop(std::move(stop));
  if (const json* ids = fields.Find("stop_token_ids")) {
    const auto read = TokenIds(*ids);
    if (!read.has_value()) fields.Fail("stop_token_ids", "must be an array of token ids");
    if (read.has_value()) out->mutable_stop_token_ids()->Assign(read->begin(), read->end());
  }
  if (const auto v = fields.Boolean("ignore_eos")) out->set_ignore_eos(*v);
  if (const auto v = fields.Integer("min_tokens", 0, kMostTokens)) out->set_min_tokens(static_cast<uint32_t>(*v));
}

}  // namespace

std::optional<uint32_t> ReadMaxTokens(Fields& fields, const char* name) {
  const auto tokens = fields.Integer(name, INT64_MIN, INT64_MAX);
  if (!tokens.has_value()) return std::nullopt;
  if (*tokens >= 1 && *tokens <= kMostTokens) return static_cast<uint32_t>(*tokens);
  fields.Fail(name, absl::StrCat("is ", *tokens, "; allowed are 1 to what the prompt leaves of the model's context"));
  return std::nullopt;
}

void ReadCommon(Fields& fields, CompletionRequest* out, v1::GenerateRequest* prompt) {
  out->model = fields.String("model").value_or("");
  prompt->set_model(out->model);
  for (const Refusal& refusal : kRefusals) {
    const json* value = fields.Find(refusal.name);
    if (value != nullptr && refusal.refused(*value)) fields.Fail(UnsupportedParameter(refusal.name, refusal.why));
  }
  ReadSampling(fields, prompt->mutable_sampling());
  ReadStopping(fields, prompt->mutable_stopping());
  out->n = static_cast<int>(fields.Integer("n", 1, kMostChoices).value_or(1));
  if (const auto best_of = fields.Integer("best_of", 0, INT32_MAX); best_of && *best_of > out->n) {
    fields.Fail(
        UnsupportedParameter("best_of", "every completion that is computed is returned; leave it out or send n"));
  }
  out->stream = fields.Boolean("stream").value_or(false);
  if (const json* options = fields.Object("stream_options")) {
    Fields inner(*options, "stream_options.");
    out->include_usage = inner.Boolean("include_usage").value_or(false) && out->stream;
    if (inner.error()) fields.Fail(*inner.error());
  }
  out->include_stop = fields.Boolean("include_stop_str_in_output").value_or(false);
  out->tokens_as_ids = fields.Boolean("return_tokens_as_token_ids").value_or(false);
  // vLLM serves the lowest number first, the scheduler the highest.
  if (const auto v = fields.Integer("priority", -100, 100)) prompt->set_priority(static_cast<int32_t>(-*v));
  // No reason to refuse one that is too long: nothing depends on it.
  if (const auto key = fields.String("prompt_cache_key"); key && key->size() <= kLongestSession) {
    prompt->set_session_id(*key);
  }
}

v1::GenerateRequest CompletionRequest::ForChoice(int i) const {
  v1::GenerateRequest request = prompts[i / n];
  // Odd, so that distinct choices have distinct seeds; any other rule would do as well.
  if (request.sampling().has_seed() && i > 0) {
    request.mutable_sampling()->set_seed(request.sampling().seed() + static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u);
  }
  return request;
}

}  // namespace tandem::gateway
