// The logprobs of a choice, or of one delta of it, in the two shapes that OpenAI has: the chat's list of tokens with
// their bytes, and the completions' parallel arrays. Grows token by token; empty ones are written as null.
#ifndef TANDEM_CLIENT_GATEWAY_LOGPROBS_JSON_H_
#define TANDEM_CLIENT_GATEWAY_LOGPROBS_JSON_H_

#include <cstddef>
#include <string>

#include "tandem/v1/inference.pb.h"

namespace tandem::gateway {

class LogprobsJson {
 public:
  struct Style {
    bool chat = false;
    bool tokens_as_ids = false;  // "token_id:17" for the token's text
  };
  LogprobsJson() = default;
  // `text_offset`: characters of the choice's text before the first token; the completions' shape counts on from it.
  explicit LogprobsJson(Style style, size_t text_offset = 0) : style_(style), text_offset_(text_offset) {}

  void Add(const v1::Chunk& chunk);
  bool empty() const { return first_.empty(); }
  void AppendTo(std::string* out) const;
  size_t text_offset() const { return text_offset_; }

 private:
  Style style_;
  size_t text_offset_ = 0;
  // Of the chat's shape `first_` alone is used.
  std::string first_, token_logprobs_, top_logprobs_, text_offsets_;
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_LOGPROBS_JSON_H_
