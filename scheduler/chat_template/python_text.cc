#include "scheduler/chat_template/python_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "scheduler/tokenizer/unicode.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {
namespace {

using tokenizer::AppendChar;
using tokenizer::TakeChar;

size_t CharStartBefore(absl::string_view utf8, size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<uint8_t>(utf8[end]) & 0xC0) == 0x80);
  return end;
}

char32_t CharAt(absl::string_view utf8, size_t at) { return TakeChar(utf8, &at); }

utf8proc_category_t CategoryOf(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

template <typename Map>
std::string MapChars(absl::string_view utf8, Map map) {
  std::string out;
  out.reserve(utf8.size());
  for (size_t at = 0; at < utf8.size();) AppendChar(map(TakeChar(utf8, &at)), &out);
  return out;
}

char32_t ToUpper(char32_t c) { return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))); }
char32_t ToLower(char32_t c) { return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))); }
char32_t ToTitle(char32_t c) { return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))); }

std::vector<Text> SplitAtSpace(const Text& text, int64_t most, bool from_right) {
  const std::string& s = text.bytes();
  std::vector<Text> parts;
  if (!from_right) {
    size_t at = 0;
    while (true) {
      while (at < s.size() && IsPythonSpace(CharAt(s, at))) TakeChar(s, &at);
      if (at == s.size()) return parts;
      if (most >= 0 && static_cast<int64_t>(parts.size()) == most) break;
      const size_t begin = at;
      while (at < s.size() && !IsPythonSpace(CharAt(s, at))) TakeChar(s, &at);
      parts.push_back(text.Slice(begin, at));
    }
    parts.push_back(text.Slice(at, s.size()));
    return parts;
  }
  size_t end = s.size();
  while (true) {
    while (end > 0 && IsPythonSpace(CharAt(s, CharStartBefore(s, end)))) end = CharStartBefore(s, end);
    if (end == 0) break;
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(text.Slice(0, end));
      break;
    }
    size_t begin = end;
    while (begin > 0 && !IsPythonSpace(CharAt(s, CharStartBefore(s, begin)))) begin = CharStartBefore(s, begin);
    parts.push_back(text.Slice(begin, end));
    end = begin;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

bool IsPythonSpace(char32_t c) { return (c >= 0x1C && c <= 0x1F) || tokenizer::IsWhitespace(c); }

size_t CountChars(absl::string_view utf8) {
  return static_cast<size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char b) { return (static_cast<uint8_t>(b) & 0xC0) != 0x80; }));
}

size_t OffsetOf(absl::string_view utf8, size_t index) {
  size_t at = 0;
  while (index > 0 && at < utf8.size()) {
    do {
      ++at;
    } while (at < utf8.size() && (static_cast<uint8_t>(utf8[at]) & 0xC0) == 0x80);
    --index;
  }
  return at;
}

Text Strip(const Text& text, Side side, const std::string* chars) {
  const std::string& s = text.bytes();
  const auto goes = [&](size_t at) {
    if (chars == nullptr) return IsPythonSpace(CharAt(s, at));
    const char32_t c = CharAt(s, at);
    for (size_t i = 0; i < chars->size();) {
      if (TakeChar(*chars, &i) == c) return true;
    }
    return false;
  };
  size_t begin = 0, end = s.size();
  while (side != Side::kRight && begin < end && goes(begin)) TakeChar(s, &begin);
  while (side != Side::kLeft && end > begin && goes(CharStartBefore(s, end))) end = CharStartBefore(s, end);
  return text.Slice(begin, end);
}

std::vector<Text> Split(const Text& text, const std::string* separator, int64_t most, bool from_right) {
  if (separator == nullptr) return SplitAtSpace(text, most, from_right);
  const std::string& s = text.bytes();
  std::vector<Text> parts;
  if (!from_right) {
    size_t begin = 0;
    while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
      const size_t cut = s.find(*separator, begin);
      if (cut == std::string::npos) break;
      parts.push_back(text.Slice(begin, cut));
      begin = cut + separator->size();
    }
    parts.push_back(text.Slice(begin, s.size()));
    return parts;
  }
  size_t end = s.size();
  while ((most < 0 || static_cast<int64_t>(parts.size()) < most) && end >= separator->size()) {
    const size_t cut = s.rfind(*separator, end - separator->size());
    if (cut == std::string::npos) break;
    parts.push_back(text.Slice(cut + separator->size(), end));
    end = cut;
  }
  parts.push_back(text.Slice(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Text> SplitLines(const Text& text, bool keep_ends) {
  const std::string& s = text.bytes();
  std::vector<Text> lines;
  size_t begin = 0;
  for (size_t at = 0; at < s.size();) {
    const size_t end = at;
    const char32_t c = TakeChar(s, &at);
    const bool breaks = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (!breaks) continue;
    if (c == '\r' && at < s.size() && s[at] == '\n') ++at;
    lines.push_back(text.Slice(begin, keep_ends ? at : end));
    begin = at;
  }
  if (begin < s.size()) lines.push_back(text.Slice(begin, s.size()));
  return lines;
}

Text Replace(const Text& text, const Text& from, const Text& to, int64_t most) {
  const std::string& s = text.bytes();
  std::string out;
  size_t done = 0;
  int64_t count = 0;
  if (from.empty()) {  // Python puts `to` around every character
    for (size_t at = 0; most < 0 || count < most;) {
      out += to.bytes();
      ++count;
      if (at == s.size()) break;
      done = at;
      TakeChar(s, &at);
      out.append(s, done, at - done);
      done = at;
    }
  } else {
    while (most < 0 || count < most) {
      const size_t found = s.find(from.bytes(), done);
      if (found == std::string::npos) break;
      out.append(s, done, found - done).append(to.bytes());
      done = found + from.size();
      ++count;
    }
  }
  if (count == 0) return text;
  out.append(s, done, std::string::npos);
  const bool given = !text.given().empty() || !to.given().empty();
  return given ? Text::Given(std::move(out)) : Text(std::move(out));
}

std::string Upper(absl::string_view utf8) { return MapChars(utf8, ToUpper); }
std::string Lower(absl::string_view utf8) { return tokenizer::Lowercase(utf8); }

std::string Capitalize(absl::string_view utf8) {
  bool first = true;
  return MapChars(utf8, [&](char32_t c) { return std::exchange(first, false) ? ToTitle(c) : ToLower(c); });
}

std::string Title(absl::string_view utf8) {
  bool inside = false;
  return MapChars(utf8, [&](char32_t c) {
    const bool cased = IsUpper(c) || IsLower(c) || CategoryOf(c) == UTF8PROC_CATEGORY_LT;
    return std::exchange(inside, cased) ? ToLower(c) : ToTitle(c);
  });
}

std::string TitleWords(absl::string_view utf8) {
  bool begins = true;
  return MapChars(utf8, [&](char32_t c) {
    const bool breaks = IsPythonSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    const char32_t out = begins ? ToUpper(c) : ToLower(c);
    begins = breaks;
    return out;
  });
}

bool IsAlpha(char32_t c) {
  const auto category = CategoryOf(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool IsDecimal(char32_t c) { return CategoryOf(c) == UTF8PROC_CATEGORY_ND; }
bool IsUpper(char32_t c) { return CategoryOf(c) == UTF8PROC_CATEGORY_LU; }
bool IsLower(char32_t c) { return CategoryOf(c) == UTF8PROC_CATEGORY_LL; }

bool IsPrintable(char32_t c) {
  if (c == ' ') return true;
  switch (CategoryOf(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

}  // namespace tandem::chat
