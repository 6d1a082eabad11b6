#include "scheduler/chat_prompt.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "scheduler/validate_request.h"

namespace tandem::scheduler {
namespace {

// As the comments of inference.proto say.
constexpr int kMostMessages = 8192;
constexpr int kMostParts = 1024;  // of a message
constexpr size_t kLongestRole = 64;
constexpr size_t kLongestName = 256;
constexpr size_t kLargestVariables = 64 << 10;
constexpr size_t kLargestTools = 1 << 20;

Error Invalid(std::string message, std::string field) {
  return {kInvalidParameter, std::move(message), {}, {{"field", std::move(field)}}};
}

// Templates make control tokens of roles, so a role is a word and nothing else.
bool IsRole(const std::string& role) {
  return !role.empty() && role.size() <= kLongestRole && std::all_of(role.begin(), role.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '_' || c == '-';
  });
}

std::optional<Error> CheckText(const std::string& text, size_t most, const std::string& field) {
  if (text.size() > most)
    return Invalid(absl::StrFormat("%s has %d bytes; allowed are %d", field, text.size(), most), field);
  return ValidateUtf8(text, field.c_str());
}

std::optional<Error> ValidateMessage(const v1::ChatMessage& message, const std::string& field) {
  if (!IsRole(message.role())) {
    return Invalid(absl::StrFormat("%s.role is not 1 to %d letters, digits, '_' and '-'", field, kLongestRole),
                   field + ".role");
  }
  if (!message.content().empty() && message.parts_size() > 0) {
    return Invalid(absl::StrCat(field, " has content and parts; set one of them"), field + ".parts");
  }
  if (message.parts_size() > kMostParts) {
    return Invalid(absl::StrFormat("%s has %d parts; allowed are %d", field, message.parts_size(), kMostParts),
                   field + ".parts");
  }
  for (const v1::ContentPart& part : message.parts()) {
    if (!part.has_text())
      return Error{kUnsupportedParameter,
                   absl::StrCat(field, ".parts has one that is no text"),
                   {},
                   {{"field", field + ".parts"}}};
    if (auto e = ValidateUtf8(part.text(), (field + ".parts").c_str())) return e;
  }
  if (auto e = ValidateUtf8(message.content(), (field + ".content").c_str())) return e;
  if (auto e = CheckText(message.name(), kLongestName, field + ".name")) return e;
  if (auto e = CheckText(message.tool_call_id(), kLongestName, field + ".tool_call_id")) return e;
  return CheckText(message.tool_calls_json(), kLargestTools, field + ".tool_calls_json");
}

}  // namespace

std::optional<Error> ValidateChat(const v1::ChatPrompt& chat) {
  if (chat.messages().empty()) return Invalid("the chat has no messages; send at least one", "chat.messages");
  if (chat.messages_size() > kMostMessages) {
    return Invalid(absl::StrFormat("the chat has %d messages; allowed are %d", chat.messages_size(), kMostMessages),
                   "chat.messages");
  }
  if (chat.continue_final_message() && chat.has_add_generation_prompt() && chat.add_generation_prompt()) {
    return Invalid("chat.continue_final_message and chat.add_generation_prompt exclude each other; set one of them",
                   "chat.continue_final_message");
  }
  for (int i = 0; i < chat.messages_size(); ++i) {
    if (auto e = ValidateMessage(chat.messages(i), absl::StrCat("chat.messages[", i, "]"))) return e;
  }
  const v1::ChatMessage& last = chat.messages(chat.messages_size() - 1);
  if (chat.continue_final_message() && last.content().empty() && last.parts().empty()) {
    return Invalid("chat.continue_final_message is set, and the final message has no text to continue",
                   "chat.continue_final_message");
  }
  if (auto e = CheckText(chat.template_kwargs_json(), kLargestVariables, "chat.template_kwargs_json")) return e;
  return CheckText(chat.tools_json(), kLargestTools, "chat.tools_json");
}

std::optional<Error> RenderChat(const v1::ChatPrompt& chat, const chat::ChatTemplate& chat_template,
                                chat::Text* prompt) {
  chat::Conversation conversation;
  for (const v1::ChatMessage& from : chat.messages()) {
    chat::Message& to = conversation.messages.emplace_back();
    to.role = from.role();
    to.content = from.content();
    for (const v1::ContentPart& part : from.parts()) to.parts.push_back(part.text());
    to.name = from.name();
    to.tool_calls_json = from.tool_calls_json();
    to.tool_call_id = from.tool_call_id();
  }
  conversation.continue_final_message = chat.continue_final_message();
  conversation.add_generation_prompt =
      chat.has_add_generation_prompt() ? chat.add_generation_prompt() : !chat.continue_final_message();
  conversation.template_kwargs_json = chat.template_kwargs_json();
  conversation.tools_json = chat.tools_json();
  auto rendered = chat_template.Render(conversation, chat::Limits(), absl::Now());
  if (rendered.ok()) {
    *prompt = *std::move(rendered);
    return std::nullopt;
  }
  const bool says_no = absl::IsFailedPrecondition(rendered.status());
  return Invalid(absl::StrCat("the model's chat template ", says_no ? "refuses" : "cannot render",
                              " this conversation: ", rendered.status().message()),
                 "chat");
}

absl::StatusOr<std::vector<int32_t>> EncodeChat(const chat::Text& prompt, const tokenizer::Tokenizer& tokenizer,
                                                size_t max_tokens) {
  return tokenizer.Encode(prompt.bytes(),
                          {.add_special_tokens = false, .plain = prompt.given(), .max_tokens = max_tokens});
}

}  // namespace tandem::scheduler
