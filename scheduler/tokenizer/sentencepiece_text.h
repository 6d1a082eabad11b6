// SentencePiece's own way with spaces: each becomes U+2581, the text gets one in front, and the model's user-defined
// pieces stay whole. Only the "identity" normalization is known; the loader refuses others by name.
//
// Immutable; any thread may use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_SENTENCEPIECE_TEXT_H_
#define TANDEM_SCHEDULER_TOKENIZER_SENTENCEPIECE_TEXT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/added_tokens.h"
#include "scheduler/tokenizer/bpe.h"

namespace tandem::tokenizer {

inline constexpr char kSpaceSymbol[] = "\xE2\x96\x81";  // U+2581

struct SentencePieceText {
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;             // leading and trailing spaces, and all but one of a run
  std::shared_ptr<const TokenMatcher> user_defined;  // null where there are none

  struct Word {
    std::string text;
    std::vector<Bpe::Frozen> frozen;
  };
  // `utf8` as the one word that the model sees.
  Word Spell(absl::string_view utf8) const;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_SENTENCEPIECE_TEXT_H_
