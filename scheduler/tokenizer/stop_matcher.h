// Ends a stream at the first stop string, wherever the text was cut into tokens.
//
// The stop string that is complete first counts; of several that end at the same byte, the longest. Text before it is
// delivered, the stop string and what follows is not. Text that may be the beginning of a stop string is held back
// until it is certain. Works byte by byte, so the result depends on the text alone.
//
// For one thread.
#ifndef TANDEM_SCHEDULER_TOKENIZER_STOP_MATCHER_H_
#define TANDEM_SCHEDULER_TOKENIZER_STOP_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::tokenizer {

class StopMatcher {
 public:
  // Where the stream ended. Tokens behind `token_index` are surplus: neither delivered nor counted.
  struct Stop {
    int64_t token_index;  // the token whose text completed the stop string
    size_t string_index;  // which one
  };

  // Empty stop strings are left out: they would end every stream before it begins.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  // `text` is what token `token_index` made certain; `*out` gets what may be delivered now. After a stop nothing is
  // delivered any more.
  const std::optional<Stop>& Append(int64_t token_index, absl::string_view text, std::string* out);

  // The stream ended otherwise: what was held back is text after all.
  void Flush(std::string* out);

  const std::optional<Stop>& stop() const { return stop_; }

 private:
  struct Pattern {
    std::string text;
    size_t index;                  // in the caller's list
    std::vector<size_t> fallback;  // Knuth-Morris-Pratt: longest border of text[0, i]
    size_t matched = 0;
  };

  std::vector<Pattern> patterns_;
  std::string held_;  // the end of the text so far that may belong to a stop string
  std::optional<Stop> stop_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_STOP_MATCHER_H_
