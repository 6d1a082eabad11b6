#include "client/gateway/answer_format.h"

#include "absl/strings/str_cat.h"
#include "client/gateway/json_text.h"

namespace tandem::gateway {
namespace {

// vLLM's extra: what ended the text, if not the model's own end.
void AppendStopReason(const v1::Finished& finished, std::string* out) {
  absl::StrAppend(out, ",\"stop_reason\":");
  if (finished.has_stop_string()) {
    AppendJsonString(finished.stop_string(), out);
  } else if (finished.has_stop_token_id()) {
    absl::StrAppend(out, finished.stop_token_id());
  } else {
    absl::StrAppend(out, "null");
  }
}

std::string Head(absl::string_view object, absl::string_view id, int64_t created, absl::string_view model) {
  return absl::StrCat("{\"id\":", JsonString(id), ",\"object\":\"", object, "\",\"created\":", created,
                      ",\"model\":", JsonString(model), ",\"choices\":[");
}

}  // namespace

AnswerFormat::AnswerFormat(const CompletionRequest& request, absl::string_view id, int64_t created)
    : chat_(request.chat),
      include_usage_(request.include_usage),
      elder_calls_(request.tools.elder),
      n_(request.n),
      id_(absl::StrCat(chat_ ? "chatcmpl-" : "cmpl-", id)),
      head_(Head(chat_ ? "chat.completion" : "text_completion", id_, created, request.model)),
      stream_head_("data: " + Head(chat_ ? "chat.completion.chunk" : "text_completion", id_, created, request.model)) {}

// ---- stream -------------------------------------------------------------------------------------------------------

// Where a usage chunk will come, the others say that they are none.
absl::string_view AnswerFormat::EventEnd() const { return include_usage_ ? "],\"usage\":null}\n\n" : "]}\n\n"; }

void AnswerFormat::AppendBegin(int index, std::string* out) const {
  if (!chat_) return;
  absl::StrAppend(out, stream_head_, "{\"index\":", index,
                  ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}",
                  EventEnd());
}

void AnswerFormat::AppendDelta(int index, absl::string_view text, const LogprobsJson& logprobs,
                               std::string* out) const {
  absl::StrAppend(out, stream_head_, "{\"index\":", index, chat_ ? ",\"delta\":{\"content\":" : ",\"text\":");
  AppendJsonString(text, out);
  absl::StrAppend(out, chat_ ? "},\"logprobs\":" : ",\"logprobs\":");
  logprobs.AppendTo(out);
  absl::StrAppend(out, ",\"finish_reason\":null}", EventEnd());
}

void AnswerFormat::AppendCalls(int index, const std::vector<ToolCall>& calls, size_t first,
                               const LogprobsJson& logprobs, std::string* out) const {
  absl::StrAppend(out, stream_head_, "{\"index\":", index, ",\"delta\":{");
  AppendCallMembers(index, calls, first, true, out);
  absl::StrAppend(out, "},\"logprobs\":");
  logprobs.AppendTo(out);
  absl::StrAppend(out, ",\"finish_reason\":null}", EventEnd());
}

void AnswerFormat::AppendEnd(int index, const v1::Finished& finished, bool called, std::string* out) const {
  absl::StrAppend(out, stream_head_, "{\"index\":", index, chat_ ? ",\"delta\":{}" : ",\"text\":\"\"",
                  ",\"logprobs\":null,\"finish_reason\":\"", FinishReason(finished, called), "\"");
  AppendStopReason(finished, out);
  absl::StrAppend(out, "}", EventEnd());
}

void AnswerFormat::AppendUsage(const std::vector<Choice>& choices, std::string* out) const {
  if (!include_usage_) return;
  absl::StrAppend(out, stream_head_, "]");
  AppendUsageObject(choices, out);
  absl::StrAppend(out, "}\n\n");
}

void AnswerFormat::AppendError(const ApiError& error, std::string* out) {
  absl::StrAppend(out, "data: ", ErrorJson(error), "\n\n");
}

void AnswerFormat::AppendDone(std::string* out) { absl::StrAppend(out, "data: [DONE]\n\n"); }

// ---- whole --------------------------------------------------------------------------------------------------------

std::string AnswerFormat::Whole(const std::vector<Choice>& choices) const {
  std::string out = head_;
  for (size_t i = 0; i < choices.size(); ++i) {
    const Choice& choice = choices[i];
    absl::StrAppend(&out, i > 0 ? "," : "", "{\"index\":", i,
                    chat_ ? ",\"message\":{\"role\":\"assistant\",\"content\":" : ",\"text\":");
    if (choice.text.empty() && !choice.calls.empty()) {
      absl::StrAppend(&out, "null");
    } else {
      AppendJsonString(choice.text, &out);
    }
    if (!choice.calls.empty()) {
      out.push_back(',');
      AppendCallMembers(static_cast<int>(i), choice.calls, 0, false, &out);
    }
    absl::StrAppend(&out, chat_ ? ",\"refusal\":null}" : "", ",\"logprobs\":");
    choice.logprobs.AppendTo(&out);
    absl::StrAppend(&out, ",\"finish_reason\":\"", FinishReason(choice.finished, !choice.calls.empty()), "\"");
    AppendStopReason(choice.finished, &out);
    out.push_back('}');
  }
  out.push_back(']');
  AppendUsageObject(choices, &out);
  out.push_back('}');
  return out;
}

// ---- both ---------------------------------------------------------------------------------------------------------

const char* AnswerFormat::FinishReason(const v1::Finished& finished, bool called) const {
  if (finished.reason() == v1::LENGTH) return "length";
  return !called ? "stop" : elder_calls_ ? "function_call" : "tool_calls";
}

void AnswerFormat::AppendCallMembers(int index, const std::vector<ToolCall>& calls, size_t first, bool delta,
                                     std::string* out) const {
  if (!elder_calls_) absl::StrAppend(out, "\"tool_calls\":[");
  for (size_t i = 0; i < calls.size(); ++i) {
    if (elder_calls_) {
      absl::StrAppend(out, "\"function_call\":");
    } else {
      absl::StrAppend(out, i > 0 ? "," : "", "{");
      if (delta) absl::StrAppend(out, "\"index\":", first + i, ",");
      absl::StrAppend(out, "\"id\":\"", ToolCallId(id_, index, first + i), "\",\"type\":\"function\",\"function\":");
    }
    absl::StrAppend(out, "{\"name\":", JsonString(calls[i].name), ",\"arguments\":");
    AppendJsonString(calls[i].arguments, out);
    absl::StrAppend(out, elder_calls_ ? "}" : "}}");
  }
  if (!elder_calls_) absl::StrAppend(out, "]");
}

// A prompt is computed once for its n choices, and counted once.
void AnswerFormat::AppendUsageObject(const std::vector<Choice>& choices, std::string* out) const {
  uint64_t prompt = 0, completion = 0, cached = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    const v1::Usage& usage = choices[i].finished.usage();
    completion += usage.completion_tokens();
    if (i % n_ != 0) continue;
    prompt += usage.prompt_tokens();
    cached += usage.cached_tokens();
  }
  absl::StrAppend(out, ",\"usage\":{\"prompt_tokens\":", prompt, ",\"completion_tokens\":", completion,
                  ",\"total_tokens\":", prompt + completion, ",\"prompt_tokens_details\":{\"cached_tokens\":", cached,
                  "}}");
}

}  // namespace tandem::gateway
