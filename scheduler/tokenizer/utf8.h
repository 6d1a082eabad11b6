// UTF-8 as the tokenizer needs it: checked at the door, stepped through inside, and repaired on the way out.
//
// Everything behind Tokenizer::Encode may assume valid UTF-8; everything that comes out of a model may be any bytes.
// Ill-formed output is repaired as Unicode recommends: one U+FFFD for each maximal subpart of a character.
#ifndef TANDEM_SCHEDULER_TOKENIZER_UTF8_H_
#define TANDEM_SCHEDULER_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::tokenizer {

// Bytes [begin, end) of a text.
struct Range {
  size_t begin;
  size_t end;

  bool operator==(const Range&) const = default;
};

// What stands at the beginning of a byte sequence.
struct Utf8Step {
  enum class Kind {
    kChar,        // a whole character of `length` bytes
    kBroken,      // `length` bytes that no continuation can turn into a character
    kUnfinished,  // all remaining bytes; more bytes may make a character of them
  };
  Kind kind;
  size_t length;  // in bytes, at least 1
};

// REQUIRES: `bytes` is not empty.
Utf8Step NextUtf8(absl::string_view bytes);

// The byte offset of the first character that is no valid UTF-8, if there is one.
std::optional<size_t> FindInvalidUtf8(absl::string_view bytes);

// The character at `*pos`, and `*pos` moved behind it. REQUIRES: valid UTF-8, `*pos` at the start of a character.
char32_t TakeChar(absl::string_view utf8, size_t* pos);

void AppendChar(char32_t c, std::string* out);

// Appends `bytes` with every ill-formed part replaced by U+FFFD.
void AppendRepaired(absl::string_view bytes, std::string* out);

// Appends, repaired, the part of `*pending` that later bytes cannot change, and leaves the rest (at most 3 bytes)
// there.
void MoveStable(std::string* pending, std::string* out);

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_UTF8_H_
