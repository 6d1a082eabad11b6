#include "scheduler/tokenizer/utf8.h"

#include <algorithm>

namespace tandem::tokenizer {
namespace {

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";

uint8_t Byte(absl::string_view bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

// Appends the stable part of `bytes` and returns the length of the unfinished rest.
size_t AppendStable(absl::string_view bytes, std::string* out) {
  size_t pos = 0;
  while (pos < bytes.size()) {
    const Utf8Step step = NextUtf8(bytes.substr(pos));
    switch (step.kind) {
      case Utf8Step::Kind::kChar:
        out->append(bytes.data() + pos, step.length);
        break;
      case Utf8Step::Kind::kBroken:
        out->append(kReplacement.data(), kReplacement.size());
        break;
      case Utf8Step::Kind::kUnfinished:
        return step.length;
    }
    pos += step.length;
  }
  return 0;
}

}  // namespace

Utf8Step NextUtf8(absl::string_view bytes) {
  using Kind = Utf8Step::Kind;
  const uint8_t lead = Byte(bytes, 0);
  if (lead < 0x80) return {Kind::kChar, 1};
  // The second byte's range is what excludes overlong forms, surrogates and values beyond U+10FFFF (Unicode, table
  // 3-7).
  size_t length = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Kind::kBroken, 1};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::kUnfinished, i};
    if (Byte(bytes, i) < low || Byte(bytes, i) > high) return {Kind::kBroken, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kChar, length};
}

std::optional<size_t> FindInvalidUtf8(absl::string_view bytes) {
  size_t pos = 0;
  while (pos < bytes.size()) {
    const Utf8Step step = NextUtf8(bytes.substr(pos));
    if (step.kind != Utf8Step::Kind::kChar) return pos;
    pos += step.length;
  }
  return std::nullopt;
}

char32_t TakeChar(absl::string_view utf8, size_t* pos) {
  const char32_t lead = Byte(utf8, (*pos)++);
  if (lead < 0x80) return lead;
  const int tail = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  char32_t c = lead & (0x3F >> tail);
  for (int i = 0; i < tail && *pos < utf8.size(); ++i) c = (c << 6) | (Byte(utf8, (*pos)++) & 0x3F);
  return c;
}

void AppendChar(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  const int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  static constexpr uint8_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  out->push_back(static_cast<char>(kLead[tail] | (c >> (6 * tail))));
  for (int i = tail - 1; i >= 0; --i) out->push_back(static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3F)));
}

void AppendRepaired(absl::string_view bytes, std::string* out) {
  if (AppendStable(bytes, out) > 0) out->append(kReplacement.data(), kReplacement.size());
}

void MoveStable(std::string* pending, std::string* out) {
  const size_t rest = AppendStable(*pending, out);
  pending->erase(0, pending->size() - rest);
}

}  // namespace tandem::tokenizer
