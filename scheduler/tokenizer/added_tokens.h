// Tokens that are cut out of a prompt before anything else looks at it: <|endoftext|>, [INST], runs of spaces.
//
// A "normalized" token is looked for in the text after normalization, any other in the text as it came. The leftmost
// match wins, then the longest. Immutable after construction; any thread may use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_ADDED_TOKENS_H_
#define TANDEM_SCHEDULER_TOKENIZER_ADDED_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // steers the model; left out of decoded text
  bool normalized = false;   // matched after normalization
  bool single_word = false;  // only between non-word characters
  bool lstrip = false;       // swallows the white space on its left
  bool rstrip = false;       // ... on its right
};

// Finds a set of strings in a text.
class TokenMatcher {
 public:
  // REQUIRES: `tokens` have content, all different.
  explicit TokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  // Calls `text` for each stretch between tokens and `token` for each token, in order; the first error ends it.
  // `offset` is where the stretch begins. Special tokens are plain text unless `parse_special`, and always where they
  // would take a byte of `plain` (ascending ranges).
  absl::Status Split(absl::string_view utf8, bool parse_special, absl::Span<const Range> plain,
                     absl::FunctionRef<absl::Status(absl::string_view stretch, size_t offset)> text,
                     absl::FunctionRef<absl::Status(const AddedToken& found)> token) const;

 private:
  // The longest token at `pos`, or null.
  const AddedToken* MatchAt(absl::string_view utf8, size_t pos) const;

  std::vector<AddedToken> tokens_;
  bool starts_[256] = {};                             // a token begins with this byte
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // trie: (node << 8 | byte) -> node
  std::vector<int32_t> token_at_node_;                // index into tokens_, -1 for none
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_ADDED_TOKENS_H_
