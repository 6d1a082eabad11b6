#include <array>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "client/gateway/completion_request.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

constexpr int64_t kMostLogprobs = 20;
constexpr std::array<absl::string_view, 4> kTextParts = {"text", "input_text", "output_text", "refusal"};

// Text parts stay parts: what joins them is the template's to say.
std::optional<ApiError> ReadPart(const json& content, const std::string& path, v1::ContentPart* out) {
  if (content.is_string()) {  // what some clients make of a text part
    out->set_text(content.get<std::string>());
    return std::nullopt;
  }
  if (!content.is_object()) {
    return InvalidParameter(path, absl::StrCat(path, " must be an object, and is ", KindOf(content)));
  }
  Fields part(content, path + ".");
  const std::string type = part.RequiredString("type");
  if (part.error()) return part.error();
  if (!absl::c_linear_search(kTextParts, type)) {
    return UnsupportedParameter(path, "chat models read text; leave out parts of other types");
  }
  const auto text = part.String(type == "refusal" ? "refusal" : "text");
  if (!text.has_value()) part.Fail("text", "is missing");
  if (part.error()) return part.error();
  out->set_text(*text);
  return std::nullopt;
}

std::optional<ApiError> ReadContent(const json& content, const std::string& path, v1::ChatMessage* out) {
  if (content.is_string()) {
    out->set_content(content.get<std::string>());
    return std::nullopt;
  }
  if (!content.is_array()) {
    return InvalidParameter(path,
                            absl::StrCat(path, " must be a string or an array of parts, and is ", KindOf(content)));
  }
  for (size_t i = 0; i < content.size(); ++i) {
    if (auto error = ReadPart(content[i], absl::StrCat(path, "[", i, "]"), out->add_parts())) return error;
  }
  return std::nullopt;
}

std::optional<ApiError> ReadMessage(const json& message, const std::string& path, v1::ChatMessage* out) {
  if (!message.is_object()) {
    return InvalidParameter(path, absl::StrCat(path, " must be an object, and is ", KindOf(message)));
  }
  Fields fields(message, path + ".");
  out->set_role(fields.RequiredString("role"));
  if (out->role() == "function") out->set_role("tool");  // the elder name; templates know the newer
  out->set_name(fields.String("name").value_or(""));
  out->set_tool_call_id(fields.String("tool_call_id").value_or(""));
  if (const json* calls = fields.Find("tool_calls"); calls != nullptr && !calls->empty()) {
    if (!calls->is_array()) fields.Fail("tool_calls", absl::StrCat("must be an array, and is ", KindOf(*calls)));
    out->set_tool_calls_json(calls->dump());
  }
  if (const json* call = fields.Object("function_call"); call != nullptr && !call->empty()) {  // the elder form
    out->set_tool_calls_json(json::array({{{"type", "function"}, {"function", *call}}}).dump());
  }
  if (fields.error()) return fields.error();
  const json* content = fields.Find("content");  // absent or null: an empty message, as one that only calls tools is
  return content == nullptr ? std::nullopt : ReadContent(*content, path + ".content", out);
}

void ReadMessages(Fields& fields, v1::ChatPrompt* out) {
  const json* messages = fields.Find("messages");
  if (messages == nullptr) return fields.Fail("messages", "is missing");
  if (!messages->is_array()) {
    return fields.Fail("messages", absl::StrCat("must be an array, and is ", KindOf(*messages)));
  }
  if (messages->empty()) return fields.Fail("messages", "is empty; send at least one message");
  if (messages->size() > kMostMessages) {
    return fields.Fail("messages", absl::StrCat("has ", messages->size(), " messages; allowed are ", kMostMessages));
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    if (auto error = ReadMessage((*messages)[i], absl::StrCat("messages[", i, "]"), out->add_messages())) {
      return fields.Fail(*std::move(error));
    }
  }
}

}  // namespace

void ReadChatPrompt(Fields& fields, v1::ChatPrompt* out) {
  if (fields.Has("chat_template")) {
    fields.Fail(
        UnsupportedParameter("chat_template", "the model's own is used; set another in the model's configuration"));
  }
  if (const json* documents = fields.Find("documents"); documents != nullptr && !documents->empty()) {
    fields.Fail(UnsupportedParameter("documents", "put them into a message"));
  }
  if (const auto v = fields.Boolean("add_generation_prompt")) out->set_add_generation_prompt(*v);
  out->set_continue_final_message(fields.Boolean("continue_final_message").value_or(false));
  if (const json* kwargs = fields.Object("chat_template_kwargs"); kwargs != nullptr && !kwargs->empty()) {
    out->set_template_kwargs_json(kwargs->dump());
  }
  ReadMessages(fields, out);
}

std::variant<CompletionRequest, ApiError> ParseChat(const json& body, absl::string_view text) {
  Fields fields(body, "", text);
  CompletionRequest out;
  out.chat = true;
  v1::GenerateRequest request;
  ReadCommon(fields, &out, &request);
  const auto newer = ReadMaxTokens(fields, "max_completion_tokens");
  const auto older = ReadMaxTokens(fields, "max_tokens");
  if (newer || older) request.mutable_stopping()->set_max_tokens(newer ? *newer : *older);

  out.logprobs = fields.Boolean("logprobs").value_or(false);
  const auto top = fields.Integer("top_logprobs", 0, kMostLogprobs);
  if (top.value_or(0) > 0 && !out.logprobs) fields.Fail("top_logprobs", "needs logprobs to be true");
  if (out.logprobs) request.set_logprobs(static_cast<uint32_t>(top.value_or(0)));

  ReadChatPrompt(fields, request.mutable_chat());
  out.tools = ReadTools(fields, request.mutable_chat());
  if (fields.error()) return *fields.error();
  out.prompts.push_back(std::move(request));
  return out;
}

}  // namespace tandem::gateway
