// The text of a growing row of tokens: T(k), the longest stable text of the first k tokens.
//
// Stable means that later tokens cannot change it: half a character is held back, and so is what could be the beginning
// of a stop string. A stop string that is found cuts the text before it.
//
// Not synchronised. Memory: four bytes a token beside the text itself.
#ifndef TANDEM_SCHEDULER_OUTPUT_TEXT_H_
#define TANDEM_SCHEDULER_OUTPUT_TEXT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/incremental_detokenizer.h"
#include "scheduler/tokenizer/stop_matcher.h"
#include "scheduler/tokenizer/tokenizer.h"

namespace tandem::scheduler {

class OutputText {
 public:
  // `continues_text`: the prompt before it has text, so a leading space is a space.
  OutputText(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::vector<std::string> stop, bool continues_text);

  // Which stop string the token completed, if one. REQUIRES: none has been, and Finish was not called.
  std::optional<size_t> Append(uint32_t id);

  // No token comes any more: what was held back is Tail().
  void Finish();

  // T(end) - T(begin). REQUIRES: begin <= end <= tokens appended.
  absl::string_view Between(size_t begin, size_t end) const;
  // What Finish made of the rest; empty before.
  absl::string_view Tail() const;

  size_t bytes() const { return text_.capacity() + ends_.capacity() * sizeof(ends_[0]); }

 private:
  const std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  tokenizer::IncrementalDetokenizer detokenizer_;
  std::optional<tokenizer::StopMatcher> matcher_;  // without stop strings the text goes straight through
  std::string piece_;                              // of one token, before the matcher
  std::string text_;
  std::vector<uint32_t> ends_;  // ends_[k] is the length of T(k + 1)
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_OUTPUT_TEXT_H_
