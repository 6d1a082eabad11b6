// From pieces back to bytes.
//
// Every decoder chain that is accepted has one shape: each token stands for bytes of its own, and at most the beginning
// of the whole text is treated differently (SentencePiece's leading space). That is what makes text a function that
// grows with its tokens; a chain of another shape is refused by name at load. Immutable after Parse(); any thread may
// use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_DECODER_H_
#define TANDEM_SCHEDULER_TOKENIZER_DECODER_H_

#include <cstddef>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/json_fields.h"

namespace tandem::tokenizer {

class Decoder {
 public:
  // `value`: the "decoder" of a tokenizer.json.
  static absl::StatusOr<Decoder> Parse(const Json& value);
  static Decoder ByteLevel();
  // U+2581 is a space, <0xXX> a byte, and `strip_start` leading spaces belong to the spelling, not to the text.
  static Decoder SentencePiece(size_t strip_start);

  // The spelling of a word's end stands for a space, and this comes behind all other steps: what transformers makes of
  // CLIP's pieces.
  void EndWords(std::string spelling) { steps_.push_back(Replace{std::move(spelling), " "}); }

  // The bytes of one token, which need not be whole characters. `first`: no token of the text came before.
  std::string Bytes(absl::string_view piece, bool first) const;

  // Bytes() depends on `first`.
  bool first_differs() const { return first_differs_; }

  // This many leading `strip_char` of the whole text are left out.
  size_t strip_start() const { return strip_start_; }
  char strip_char() const { return strip_char_; }

 private:
  struct SpellBytes {};  // the byte-level alphabet
  struct BytePieces {};  // <0xXX>
  struct Replace {
    std::string from;
    std::string to;
  };
  struct Metaspace {
    std::string replacement;
    bool drop_on_first;
  };
  struct StripToken {
    char content;
    size_t start;
    size_t stop;
  };
  struct WordPieces {  // a space before every piece but the first, and none before a continuing one
    std::string prefix;
    bool cleanup;
  };
  using Step = std::variant<SpellBytes, BytePieces, Replace, Metaspace, StripToken, WordPieces>;

  absl::Status Add(const Json& value, const std::string& path, int depth);

  std::vector<Step> steps_;
  bool makes_bytes_ = false;  // a step made bytes of a piece; what follows must not read them as characters
  bool fused_ = false;        // what follows sees the whole text
  bool first_differs_ = false;
  size_t strip_start_ = 0;
  char strip_char_ = ' ';
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_DECODER_H_
