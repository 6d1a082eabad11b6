#include "scheduler/chat_template/chat_template.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "scheduler/chat_template/json_value.h"
#include "scheduler/chat_template/python_text.h"

namespace tandem::chat {
namespace {

// Marks where the final message ends, to cut the prompt there. The word is transformers' own: where a template trims
// messages, the space at its end is what tells.
constexpr absl::string_view kContinueMark = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr absl::string_view kContinueWord = "CONTINUE_FINAL_MESSAGE_TAG";

constexpr absl::string_view kOwnVariables[] = {"messages", "tools", "add_generation_prompt"};

Value TextPart(std::string text) {
  Dict part;
  part.Set(Value::Own("type"), Value::Own("text"));
  part.Set(Value::Own("text"), Value::String(Text::Given(std::move(text))));
  return Value::MakeDict(std::move(part));
}

// OpenAI's API has arguments as a string that holds an object; templates want the object.
absl::StatusOr<Value> WithParsedArguments(const Value& calls) {
  if (!calls.is_sequence()) return absl::InvalidArgumentError("tool_calls_json is no array");
  List out;
  for (const Value& call : calls.items()) {
    const Value* function = call.Is(Value::Kind::kDict) ? call.dict().Find("function") : nullptr;
    const Value* arguments =
        function != nullptr && function->Is(Value::Kind::kDict) ? function->dict().Find("arguments") : nullptr;
    if (arguments == nullptr || !arguments->is_string()) {
      out.push_back(call);
      continue;
    }
    auto parsed = ParseJsonValue(arguments->text().empty() ? "{}" : arguments->bytes(), "function.arguments");
    if (!parsed.ok()) return parsed.status();
    if (parsed->depth() + 8 > Value::kDeepest) return absl::InvalidArgumentError("function.arguments nests too deeply");
    Dict new_function = function->dict(), new_call = call.dict();
    new_function.Set(Value::Own("arguments"), *std::move(parsed));
    new_call.Set(Value::Own("function"), Value::MakeDict(std::move(new_function)));
    out.push_back(Value::MakeDict(std::move(new_call)));
  }
  return Value::MakeList(std::move(out));
}

// The prompt up to the end of the final message. `final_text` is what that said.
absl::StatusOr<Text> CutAtMark(const Text& prompt, const std::string& final_text) {
  const std::string& bytes = prompt.bytes();
  const size_t mark = bytes.rfind(kContinueWord.data(), std::string::npos, kContinueWord.size());
  const std::string stripped = Strip(Text(final_text), Side::kBoth, nullptr).bytes();
  if (mark == std::string::npos || bytes.find(stripped) == std::string::npos) {
    return absl::FailedPreconditionError(
        "the template leaves out or changes the final message, which so cannot be continued");
  }
  const Text before = prompt.Slice(0, mark);
  const bool kept_space = absl::StartsWith(absl::string_view(bytes).substr(mark), kContinueMark);
  return kept_space ? before : Strip(before, Side::kRight, nullptr);
}

}  // namespace

ChatTemplate::ChatTemplate(Template main, std::optional<Template> tool_use,
                           std::map<std::string, std::string> special_tokens)
    : main_(std::move(main)), tool_use_(std::move(tool_use)), special_tokens_(std::move(special_tokens)) {}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::Make(const TemplateFiles& files) {
  if (!files.source) return std::shared_ptr<const ChatTemplate>();
  const auto in_file = [&](const absl::Status& status, absl::string_view which) {
    return absl::InvalidArgumentError(absl::StrCat(files.origin, ": ", which, status.message(),
                                                   "; name another file as chat_template in the configuration"));
  };
  auto main = Template::Parse(*files.source);
  if (!main.ok()) return in_file(main.status(), "the chat template, ");
  std::optional<Template> tool_use;
  if (files.tool_use) {
    auto parsed = Template::Parse(*files.tool_use);
    if (!parsed.ok()) return in_file(parsed.status(), "the chat template tool_use, ");
    tool_use = *std::move(parsed);
  }
  std::shared_ptr<ChatTemplate> made(new ChatTemplate(*std::move(main), std::move(tool_use), files.special_tokens));
  if (absl::Status status = made->Try(); !status.ok()) return in_file(status, "the chat template, ");
  return made;
}

// Which form of content the template takes is found by trying both: a list that is taken for a string shows as Python
// code, a string that is taken for a list does not show at all.
absl::Status ChatTemplate::Try() {
  const std::string word = "hello";
  const auto render = [&](bool as_parts) {
    takes_text_ = !as_parts;
    takes_parts_ = as_parts;
    Conversation conversation;
    conversation.messages.push_back({.role = "user", .content = word});
    return Render(conversation, Limits(), absl::UnixEpoch());
  };
  const auto shows = [&](const absl::StatusOr<Text>& prompt) {
    return prompt.ok() && absl::StrContains(prompt->bytes(), word) && !absl::StrContains(prompt->bytes(), "'type'");
  };
  const auto from_parts = render(true), from_text = render(false);
  takes_parts_ = shows(from_parts);
  takes_text_ = shows(from_text) || !takes_parts_;
  const absl::Status& status = from_text.status();
  // A template may want other messages than this one, and says so itself; anything else is ours to refuse.
  if (takes_parts_ || status.ok() || status.code() == absl::StatusCode::kFailedPrecondition) return absl::OkStatus();
  return status;
}

absl::StatusOr<Value> ChatTemplate::MakeMessage(const Message& message, bool is_continued) const {
  std::vector<std::string> parts = message.parts;
  if (parts.empty()) parts.push_back(message.content);
  if (is_continued) absl::StrAppend(&parts.back(), kContinueMark);
  const bool as_list = message.parts.empty() ? !takes_text_ : takes_parts_;

  Dict out;
  out.Set(Value::Own("role"), Value::Own(message.role));
  if (!message.tool_calls_json.empty() && message.content.empty() && message.parts.empty() && !is_continued) {
    out.Set(Value::Own("content"), Value::None());
  } else if (as_list) {
    List items;
    for (std::string& part : parts) items.push_back(TextPart(std::move(part)));
    out.Set(Value::Own("content"), Value::MakeList(std::move(items)));
  } else {
    out.Set(Value::Own("content"), Value::String(Text::Given(absl::StrJoin(parts, "\n"))));
  }
  if (!message.name.empty()) out.Set(Value::Own("name"), Value::String(Text::Given(message.name)));
  if (!message.tool_call_id.empty()) {
    out.Set(Value::Own("tool_call_id"), Value::String(Text::Given(message.tool_call_id)));
  }
  if (!message.tool_calls_json.empty()) {
    auto calls = ParseJsonValue(message.tool_calls_json, "tool_calls_json");
    if (!calls.ok()) return calls.status();
    calls = WithParsedArguments(*calls);
    if (!calls.ok()) return calls.status();
    out.Set(Value::Own("tool_calls"), *std::move(calls));
  }
  return Value::MakeDict(std::move(out));
}

absl::StatusOr<Text> ChatTemplate::Render(const Conversation& conversation, const Limits& limits,
                                          absl::Time now) const {
  Dict variables;
  for (const auto& [name, text] : special_tokens_) variables.Set(Value::Own(name), Value::Own(text));
  variables.Set(Value::Own("documents"), Value::None());
  if (!conversation.template_kwargs_json.empty()) {
    const auto kwargs = ParseJsonValue(conversation.template_kwargs_json, "template_kwargs_json");
    if (!kwargs.ok()) return kwargs.status();
    if (!kwargs->Is(Value::Kind::kDict)) return absl::InvalidArgumentError("template_kwargs_json is no object");
    for (const auto& [name, value] : kwargs->dict().entries()) {
      for (absl::string_view own : kOwnVariables) {
        if (name.bytes() == own) {
          return absl::InvalidArgumentError(absl::StrCat("template_kwargs_json cannot set ", own));
        }
      }
      variables.Set(name, value);
    }
  }
  Value tools = Value::None();
  if (!conversation.tools_json.empty()) {
    auto parsed = ParseJsonValue(conversation.tools_json, "tools_json");
    if (!parsed.ok()) return parsed.status();
    if (!parsed->is_sequence()) return absl::InvalidArgumentError("tools_json is no array");
    tools = *std::move(parsed);
  }
  List messages;
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    const bool is_continued = conversation.continue_final_message && i + 1 == conversation.messages.size();
    auto message = MakeMessage(conversation.messages[i], is_continued);
    if (!message.ok()) return message.status();
    messages.push_back(*std::move(message));
  }
  variables.Set(Value::Own("messages"), Value::MakeList(std::move(messages)));
  variables.Set(Value::Own("tools"), tools);
  variables.Set(Value::Own("add_generation_prompt"), Value::Bool(conversation.add_generation_prompt));

  const bool with_tools = tool_use_ && !tools.Is(Value::Kind::kNone);
  auto prompt = (with_tools ? *tool_use_ : main_).Render(variables, limits, now);
  if (!prompt.ok() || !conversation.continue_final_message || conversation.messages.empty()) return prompt;
  const Message& last = conversation.messages.back();
  return CutAtMark(*prompt, last.parts.empty() ? last.content : last.parts.back());
}

}  // namespace tandem::chat
