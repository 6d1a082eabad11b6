#include "client/gateway/tokenize_request.h"

#include "client/gateway/completion_request.h"
#include "client/gateway/json_body.h"
#include "client/gateway/tool_request.h"

namespace tandem::gateway {

std::variant<v1::TokenizeRequest, ApiError> ParseTokenize(const nlohmann::json& body, absl::string_view text) {
  Fields fields(body, "", text);
  v1::TokenizeRequest out;
  out.set_model(fields.String("model").value_or(""));
  if (fields.Has("messages")) {
    ReadChatPrompt(fields, out.mutable_chat());
    ReadTools(fields, out.mutable_chat());
  } else {
    const auto prompt = fields.String("prompt");
    if (!prompt.has_value()) fields.Fail("prompt", "is missing");
    out.set_text(prompt.value_or(""));
  }
  out.set_no_special_tokens(!fields.Boolean("add_special_tokens").value_or(true));
  if (fields.Boolean("return_token_strs").value_or(false)) {
    fields.Fail(UnsupportedParameter("return_token_strs", "send the ids to /detokenize one by one"));
  }
  if (fields.error()) return *fields.error();
  return out;
}

std::variant<v1::DetokenizeRequest, ApiError> ParseDetokenize(const nlohmann::json& body) {
  Fields fields(body);
  v1::DetokenizeRequest out;
  out.set_model(fields.String("model").value_or(""));
  out.set_keep_special_tokens(true);  // as vLLM does: nothing that was given is left out
  const nlohmann::json* tokens = fields.Find("tokens");
  if (tokens == nullptr) {
    fields.Fail("tokens", "is missing");
  } else if (const auto ids = TokenIds(*tokens)) {
    out.mutable_token_ids()->Assign(ids->begin(), ids->end());
  } else {
    fields.Fail("tokens", "must be an array of token ids");
  }
  if (fields.error()) return *fields.error();
  return out;
}

}  // namespace tandem::gateway
