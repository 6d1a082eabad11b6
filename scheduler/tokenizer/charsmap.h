// SentencePiece's compiled normalizer, the "precompiled_charsmap" of a tokenizer.json: a table of byte sequences and
// what each becomes, as a double array (Darts) over the sequences and one block of the replacements.
//
// It is applied as the reference applies it: to each grapheme cluster of fewer than 6 bytes as a whole, where the
// shortest entry that begins the cluster replaces all of it; else to each character. The bytes come from a file and are
// checked at every step. Immutable after Parse(); any thread may use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_CHARSMAP_H_
#define TANDEM_SCHEDULER_TOKENIZER_CHARSMAP_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::tokenizer {

class Charsmap {
 public:
  static absl::StatusOr<Charsmap> Parse(absl::string_view bytes);

  // REQUIRES: valid UTF-8. So is the result.
  std::string Apply(absl::string_view utf8) const;

 private:
  std::optional<absl::string_view> Find(absl::string_view key) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends with a NUL
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_CHARSMAP_H_
