#include "client/gateway/completion_request.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

constexpr uint32_t kDefaultMaxTokens = 16;  // OpenAI's, and vLLM's
constexpr int64_t kMostLogprobs = 20;

// A string, [string], [int] or [[int]].
void ReadPrompts(Fields& fields, const v1::GenerateRequest& common, CompletionRequest* out) {
  const json* prompt = fields.Find("prompt");
  if (prompt == nullptr) return fields.Fail("prompt", "is missing");
  const auto add = [&](const json& one) {
    v1::GenerateRequest request = common;
    if (one.is_string()) {
      request.set_text(one.get<std::string>());
    } else if (const auto ids = TokenIds(one); ids.has_value() && !ids->empty()) {
      request.mutable_token_ids()->mutable_ids()->Assign(ids->begin(), ids->end());
    } else {
      return false;
    }
    out->prompts.push_back(std::move(request));
    return true;
  };
  constexpr char kForms[] = "must be a string, an array of strings, an array of token ids, or an array of those";
  const bool several = prompt->is_array() && !prompt->empty() && ((*prompt)[0].is_string() || (*prompt)[0].is_array());
  if (!several) {
    if (!add(*prompt)) fields.Fail("prompt", kForms);
    return;
  }
  if (prompt->size() > kMostChoices) {
    return fields.Fail("prompt", absl::StrCat("has ", prompt->size(), " prompts; allowed are ", kMostChoices));
  }
  for (const json& one : *prompt) {
    if (!add(one)) return fields.Fail("prompt", kForms);
  }
}

}  // namespace

std::variant<CompletionRequest, ApiError> ParseCompletion(const json& body) {
  Fields fields(body);
  CompletionRequest out;
  v1::GenerateRequest common;
  ReadCommon(fields, &out, &common);
  if (fields.Boolean("echo").value_or(false)) {
    fields.Fail(UnsupportedParameter("echo", "the answer is the completion alone; put the prompt before it yourself"));
  }
  if (const auto suffix = fields.String("suffix"); suffix && !suffix->empty()) {
    fields.Fail(UnsupportedParameter("suffix", "text is continued at its end only"));
  }
  if (const json* tools = fields.Find("tools"); tools != nullptr && !tools->empty()) {
    fields.Fail(UnsupportedParameter("tools", "a chat calls tools; send messages to /v1/chat/completions"));
  }
  if (!fields.Boolean("add_special_tokens").value_or(true)) {
    fields.Fail(UnsupportedParameter("add_special_tokens", "send token ids as prompt; nothing is added to them"));
  }
  const auto max_tokens = ReadMaxTokens(fields, "max_tokens");
  common.mutable_stopping()->set_max_tokens(max_tokens.value_or(kDefaultMaxTokens));
  if (const auto logprobs = fields.Integer("logprobs", 0, kMostLogprobs)) {
    out.logprobs = true;
    common.set_logprobs(static_cast<uint32_t>(*logprobs));
  }
  ReadPrompts(fields, common, &out);
  if (out.choices() > kMostChoices) {
    fields.Fail("n", absl::StrCat("times the number of prompts is ", out.choices(), "; allowed are ", kMostChoices));
  }
  if (fields.error()) return *fields.error();
  return out;
}

}  // namespace tandem::gateway
