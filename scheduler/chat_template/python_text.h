// The methods of Python's str, by character.
//
// White space, letters and digits are those of Unicode 14; case is mapped character by character. REQUIRES everywhere:
// valid UTF-8.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_PYTHON_TEXT_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_PYTHON_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/chat_template/text.h"

namespace tandem::chat {

bool IsPythonSpace(char32_t c);
size_t CountChars(absl::string_view utf8);
// Offset of character `index`, or of the end.
size_t OffsetOf(absl::string_view utf8, size_t index);

enum class Side { kBoth, kLeft, kRight };
// Without the characters of `chars` (white space where null) at its sides.
Text Strip(const Text& text, Side side, const std::string* chars);

// At runs of white space where `separator` is null. At most `most` cuts, from the right if asked; -1: all.
// REQUIRES: `separator` is not empty.
std::vector<Text> Split(const Text& text, const std::string* separator, int64_t most, bool from_right);
std::vector<Text> SplitLines(const Text& text, bool keep_ends);

// Wholly given if a part that went into it was.
Text Replace(const Text& text, const Text& from, const Text& to, int64_t most);

std::string Upper(absl::string_view utf8);
std::string Lower(absl::string_view utf8);
std::string Capitalize(absl::string_view utf8);
std::string Title(absl::string_view utf8);       // str.title()
std::string TitleWords(absl::string_view utf8);  // the filter: words are what stands between white space, - ( { [ <

bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsPrintable(char32_t c);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_PYTHON_TEXT_H_
