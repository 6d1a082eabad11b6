// The byte-level alphabet of GPT-2: every byte has a printable character, so that a vocabulary file is readable text.
// Bytes that print as they are in Latin-1 stand for themselves, the other 68 for U+0100 onwards.
#ifndef TANDEM_SCHEDULER_TOKENIZER_BYTE_LEVEL_H_
#define TANDEM_SCHEDULER_TOKENIZER_BYTE_LEVEL_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::tokenizer {

// How GPT-2 cuts text into words before it is spelled in the alphabet.
inline constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// `bytes` spelled in the alphabet.
std::string ToByteLevel(absl::string_view bytes);

// The bytes that `spelled` stands for; nothing where it has a character outside the alphabet.
std::optional<std::string> FromByteLevel(absl::string_view spelled);

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_BYTE_LEVEL_H_
