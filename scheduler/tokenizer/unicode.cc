#include "scheduler/tokenizer/unicode.h"

#include <glog/logging.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

bool IsAscii(absl::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// Puts every run of combining marks in the order of their classes. utf8proc's own pass is an insertion sort, which a
// prompt of a million accents would turn into hours.
void SortMarks(std::vector<utf8proc_int32_t>* chars) {
  const auto mark_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  auto it = chars->begin();
  while (it != chars->end()) {
    if (mark_class(*it) == 0) {
      ++it;
      continue;
    }
    const auto end = std::find_if(it, chars->end(), [&](utf8proc_int32_t c) { return mark_class(c) == 0; });
    std::stable_sort(it, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) { return mark_class(a) < mark_class(b); });
    it = end;
  }
}

// Ideographs as BERT counts them: the blocks of Chinese, without kana and hangul.
bool IsChinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

bool IsBertControl(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_CC && category <= UTF8PROC_CATEGORY_CO;
}

}  // namespace

bool IsWhitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsNumeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80) return (c > 0x20 && c < '0') || (c > '9' && c < 'A') || (c > 'Z' && c < 'a') || (c > 'z' && c < 0x7F);
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsWord(char32_t c) {
  // Alphabetic symbols (circled and squared letters) are no category of their own.
  if (c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189)) {
    return true;
  }
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC;
}

std::string Normalize(NormalForm form, absl::string_view utf8) {
  if (IsAscii(utf8)) return std::string(utf8);  // ASCII is its own image in all four forms.
  const bool compat = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const auto decompose =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(utf8.size());
  for (size_t pos = 0; pos < utf8.size();) {
    utf8proc_int32_t parts[32];  // The longest decomposition of one character has 18 (U+FDFA).
    int boundary = 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(TakeChar(utf8, &pos)), parts, 32, decompose, &boundary);
    CHECK(n >= 0 && n <= 32) << n;
    chars.insert(chars.end(), parts, parts + n);
  }
  SortMarks(&chars);
  utf8proc_ssize_t length = static_cast<utf8proc_ssize_t>(chars.size());
  if (compose) {
    length = utf8proc_normalize_utf32(chars.data(), length,
                                      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    CHECK_GE(length, 0);
  }
  std::string out;
  out.reserve(utf8.size());
  for (utf8proc_ssize_t i = 0; i < length; ++i) AppendChar(static_cast<char32_t>(chars[i]), &out);
  return out;
}

std::string Lowercase(absl::string_view utf8) {
  std::string out;
  out.reserve(utf8.size());
  for (size_t pos = 0; pos < utf8.size();) {
    const char32_t c = TakeChar(utf8, &pos);
    if (c == 0x130) {  // The one letter whose lower case is two characters: i and a dot above.
      out.append("i\xCC\x87");
    } else {
      AppendChar(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), &out);
    }
  }
  return out;
}

std::string StripAccents(absl::string_view utf8) {
  std::string out;
  out.reserve(utf8.size());
  for (size_t pos = 0; pos < utf8.size();) {
    const char32_t c = TakeChar(utf8, &pos);
    const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
    if (category < UTF8PROC_CATEGORY_MN || category > UTF8PROC_CATEGORY_ME) AppendChar(c, &out);
  }
  return out;
}

std::string StripNonSpacingMarks(absl::string_view utf8) {
  std::string out;
  out.reserve(utf8.size());
  for (size_t pos = 0; pos < utf8.size();) {
    const char32_t c = TakeChar(utf8, &pos);
    if (utf8proc_category(static_cast<utf8proc_int32_t>(c)) != UTF8PROC_CATEGORY_MN) AppendChar(c, &out);
  }
  return out;
}

size_t ClusterEnd(absl::string_view utf8, size_t begin) {
  size_t end = begin;
  auto before = static_cast<utf8proc_int32_t>(TakeChar(utf8, &end));
  utf8proc_int32_t state = 0;
  while (end < utf8.size()) {
    size_t next = end;
    const auto after = static_cast<utf8proc_int32_t>(TakeChar(utf8, &next));
    if (utf8proc_grapheme_break_stateful(before, after, &state)) break;
    before = after;
    end = next;
  }
  return end;
}

std::string CleanForBert(absl::string_view utf8, bool clean, bool chinese) {
  std::string out;
  out.reserve(utf8.size());
  for (size_t pos = 0; pos < utf8.size();) {
    const char32_t c = TakeChar(utf8, &pos);
    if (clean && (c == 0 || c == 0xFFFD || IsBertControl(c))) continue;
    if (clean && IsWhitespace(c)) {
      out.push_back(' ');
    } else if (chinese && IsChinese(c)) {
      out.push_back(' ');
      AppendChar(c, &out);
      out.push_back(' ');
    } else {
      AppendChar(c, &out);
    }
  }
  return out;
}

}  // namespace tandem::tokenizer
