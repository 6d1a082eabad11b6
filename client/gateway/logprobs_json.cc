#include "client/gateway/logprobs_json.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "client/gateway/json_text.h"

namespace tandem::gateway {
namespace {

// Lower than any logprob of a float32 model; JSON has no -inf, and OpenAI sends this for it.
constexpr float kLowest = -9999.0f;

using Texts = std::map<uint32_t, std::string>;

std::string TextOf(const v1::TokenLogprob& token, const Texts& texts, bool as_id) {
  if (as_id) return absl::StrCat("token_id:", token.token_id());
  const auto found = texts.find(token.token_id());
  return found == texts.end() ? "" : found->second;
}

void AppendLogprob(const v1::TokenLogprob& token, std::string* out) {
  AppendJsonNumber(std::max(token.logprob(), kLowest), out);
}

// {"token":"a","logprob":-1,"bytes":[97] without the closing brace.
void AppendChatToken(const v1::TokenLogprob& token, const Texts& texts, bool as_id, std::string* out) {
  absl::StrAppend(out, "{\"token\":");
  AppendJsonString(TextOf(token, texts, as_id), out);
  absl::StrAppend(out, ",\"logprob\":");
  AppendLogprob(token, out);
  absl::StrAppend(out, ",\"bytes\":[");
  const char* comma = "";
  for (const char byte : TextOf(token, texts, false)) {
    absl::StrAppend(out, comma, static_cast<int>(static_cast<unsigned char>(byte)));
    comma = ",";
  }
  out->push_back(']');
}

size_t Characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

void LogprobsJson::Add(const v1::Chunk& chunk) {
  Texts texts;
  for (const v1::TokenText& token : chunk.token_texts()) texts[token.token_id()] = token.text();
  for (const v1::PositionLogprobs& position : chunk.logprobs()) {
    if (!first_.empty()) first_.push_back(',');
    if (style_.chat) {
      AppendChatToken(position.chosen(), texts, style_.tokens_as_ids, &first_);
      absl::StrAppend(&first_, ",\"top_logprobs\":[");
      for (int i = 0; i < position.top_size(); ++i) {
        if (i > 0) first_.push_back(',');
        AppendChatToken(position.top(i), texts, style_.tokens_as_ids, &first_);
        first_.push_back('}');
      }
      absl::StrAppend(&first_, "]}");
      continue;
    }
    for (std::string* list : {&token_logprobs_, &top_logprobs_, &text_offsets_}) {
      if (!list->empty()) list->push_back(',');
    }
    AppendJsonString(TextOf(position.chosen(), texts, style_.tokens_as_ids), &first_);
    AppendLogprob(position.chosen(), &token_logprobs_);
    absl::StrAppend(&text_offsets_, text_offset_);
    text_offset_ += Characters(TextOf(position.chosen(), texts, false));
    // An object keyed by text: where two tokens read alike the likelier one stands.
    std::set<std::string> said;
    top_logprobs_.push_back('{');
    for (const v1::TokenLogprob& token : position.top()) {
      const std::string text = TextOf(token, texts, style_.tokens_as_ids);
      if (!said.insert(text).second) continue;
      if (said.size() > 1) top_logprobs_.push_back(',');
      AppendJsonString(text, &top_logprobs_);
      top_logprobs_.push_back(':');
      AppendLogprob(token, &top_logprobs_);
    }
    top_logprobs_.push_back('}');
  }
}

void LogprobsJson::AppendTo(std::string* out) const {
  if (first_.empty()) {
    absl::StrAppend(out, "null");
  } else if (style_.chat) {
    absl::StrAppend(out, "{\"content\":[", first_, "],\"refusal\":null}");
  } else {
    absl::StrAppend(out, "{\"tokens\":[", first_, "],\"token_logprobs\":[", token_logprobs_, "],\"top_logprobs\":[",
                    top_logprobs_, "],\"text_offset\":[", text_offsets_, "]}");
  }
}

}  // namespace tandem::gateway
