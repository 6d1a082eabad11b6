// Turns a stream of token ids into text as it comes.
//
// T(k) is the longest stable text of the first k tokens: what no later token can change. Append() hands out
// T(k+1) - T(k), so the text of tokens [begin, end) is the same bytes however a stream is cut or resumed. Half a
// character is held back (at most 3 bytes) until it is whole, or certain to be ill-formed and then U+FFFD. Amortised
// O(1) a token, O(longest piece) memory.
//
// To resume at token k, append the first k and drop their text.
//
// Borrows the tokenizer. For one thread.
#ifndef TANDEM_SCHEDULER_TOKENIZER_INCREMENTAL_DETOKENIZER_H_
#define TANDEM_SCHEDULER_TOKENIZER_INCREMENTAL_DETOKENIZER_H_

#include <cstdint>
#include <string>

#include "scheduler/tokenizer/tokenizer.h"

namespace tandem::tokenizer {

struct DetokenizeOptions {
  bool skip_special_tokens = true;
  // The tokens follow a prompt that has text (Tokenizer::HasText), so a leading space is a space. Otherwise they begin
  // a text, and SentencePiece's dummy space is left out.
  bool continues_text = false;
};

class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(const Tokenizer& tokenizer, const DetokenizeOptions& options = {});

  // Appends to `*text` what this token makes certain.
  void Append(int32_t id, std::string* text);

  // The stream has ended: appends what was held back, as U+FFFD. No token may follow.
  void Flush(std::string* text);

 private:
  const Tokenizer* tokenizer_;
  DetokenizeOptions options_;
  bool first_differs_;  // and no token has come yet
  size_t strip_left_;   // leading strip characters that may still be left out
  char strip_char_;
  std::string pending_;  // bytes that are not stable yet
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_INCREMENTAL_DETOKENIZER_H_
