// Character classes and normal forms, by the definitions that Hugging Face tokenizers uses.
//
// Data of Unicode 14 (utf8proc and PCRE2 of Debian 12): a character that a later version added is "unassigned" here.
#ifndef TANDEM_SCHEDULER_TOKENIZER_UNICODE_H_
#define TANDEM_SCHEDULER_TOKENIZER_UNICODE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tandem::tokenizer {

bool IsWhitespace(char32_t c);   // property White_Space
bool IsNumeric(char32_t c);      // categories Nd, Nl, No
bool IsPunctuation(char32_t c);  // ASCII punctuation (symbols such as $ and + included) and the categories P*
bool IsWord(char32_t c);         // \w of UTS 18: alphabetic, marks, decimal digits, connectors, joiners

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// `utf8` in the normal form. Time is O(n log n) also for one base character under a million accents.
// REQUIRES: valid UTF-8.
std::string Normalize(NormalForm form, absl::string_view utf8);

// Every character's full lower-case mapping, without context (a final sigma is not special).
std::string Lowercase(absl::string_view utf8);

// `utf8` without its combining marks (categories M*).
std::string StripAccents(absl::string_view utf8);

// `utf8` without its marks that take no room of their own (category Mn).
std::string StripNonSpacingMarks(absl::string_view utf8);

// Where the extended grapheme cluster that begins at `begin` ends. REQUIRES: valid UTF-8, `begin` within it.
size_t ClusterEnd(absl::string_view utf8, size_t begin);

// The first two steps of BERT's normalizer. `clean`: NUL, U+FFFD and control, format and private characters vanish, and
// white space of every kind becomes a space. `chinese`: ideographs stand between spaces.
std::string CleanForBert(absl::string_view utf8, bool clean, bool chinese);

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_UNICODE_H_
