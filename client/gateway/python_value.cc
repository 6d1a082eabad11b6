#include "client/gateway/python_value.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/gateway/json_text.h"

namespace tandem::gateway {
namespace {

constexpr int kDeepest = 32;

void SkipSpace(absl::string_view* text) { *text = absl::StripLeadingAsciiWhitespace(*text); }

bool Consume(absl::string_view* text, absl::string_view what) {
  SkipSpace(text);
  return absl::ConsumePrefix(text, what);
}

bool IsNameByte(char c) { return absl::ascii_isalnum(c) || c == '_'; }

absl::string_view ConsumeName(absl::string_view* text) {
  SkipSpace(text);
  size_t size = 0;
  while (size < text->size() && IsNameByte((*text)[size])) ++size;
  const absl::string_view name = text->substr(0, size);
  text->remove_prefix(size);
  return !name.empty() && absl::ascii_isdigit(name[0]) ? absl::string_view() : name;
}

void AppendUtf8(uint32_t code, std::string* out) {
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) code = 0xFFFD;
  const auto more = [&](int shift) { out->push_back(static_cast<char>(0x80 | ((code >> shift) & 0x3F))); };
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (code >> 6)));
    more(0);
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (code >> 12)));
    more(6), more(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | (code >> 18)));
    more(12), more(6), more(0);
  }
}

// What stands after a backslash.
bool ConsumeEscape(absl::string_view* text, std::string* out) {
  if (text->empty()) return false;
  const char c = text->front();
  text->remove_prefix(1);
  constexpr absl::string_view kPlain = "\\'\"abfnrtv", kMeant = "\\'\"\a\b\f\n\r\t\v";
  if (const size_t at = kPlain.find(c); at != absl::string_view::npos) {
    out->push_back(kMeant[at]);
    return true;
  }
  const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
  if (digits == 0) {  // as Python has it: the backslash stays
    out->push_back('\\');
    out->push_back(c);
    return true;
  }
  uint32_t code = 0;
  if (text->size() < digits || !absl::SimpleHexAtoi(text->substr(0, digits), &code)) return false;
  text->remove_prefix(digits);
  AppendUtf8(code, out);
  return true;
}

std::optional<std::string> ConsumeString(absl::string_view* text) {
  const char quote = text->front();
  text->remove_prefix(1);
  std::string value;
  while (!text->empty()) {
    const char c = text->front();
    text->remove_prefix(1);
    if (c == quote) return value;
    if (c == '\n') return std::nullopt;
    if (c != '\\') {
      value.push_back(c);
    } else if (!ConsumeEscape(text, &value)) {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

bool ConsumeNumber(absl::string_view* text, std::string* out) {
  const size_t size = std::min(text->find_first_not_of("+-.0123456789eE"), text->size());
  const absl::string_view written = text->substr(0, size);
  text->remove_prefix(size);
  if (nlohmann::json::accept(written.begin(), written.end())) {  // digits of any number stay as they are
    absl::StrAppend(out, written);
    return true;
  }
  double value;
  if (written.empty() || !absl::SimpleAtod(written, &value) || !std::isfinite(value)) return false;
  AppendJsonNumber(value, out);
  return true;
}

bool ConsumeValue(absl::string_view* text, int depth, std::string* out);

// What stands between an opening bracket and `close`: values, or members "key": value.
bool ConsumeItems(absl::string_view* text, absl::string_view close, bool members, int depth, std::string* out) {
  out->push_back(members ? '{' : '[');
  for (bool first = true; !Consume(text, close); first = false) {
    if (!first) {
      if (!Consume(text, ",")) return false;
      if (Consume(text, close)) break;
      out->push_back(',');
    }
    if (members) {
      SkipSpace(text);
      if (text->empty() || (text->front() != '"' && text->front() != '\'')) return false;
      const auto key = ConsumeString(text);
      if (!key.has_value() || !Consume(text, ":")) return false;
      AppendJsonString(*key, out);
      out->push_back(':');
    }
    if (!ConsumeValue(text, depth, out)) return false;
  }
  out->push_back(members ? '}' : ']');
  return true;
}

bool ConsumeValue(absl::string_view* text, int depth, std::string* out) {
  SkipSpace(text);
  if (text->empty() || depth > kDeepest) return false;
  const char c = text->front();
  if (c == '"' || c == '\'') {
    const auto value = ConsumeString(text);
    if (value.has_value()) AppendJsonString(*value, out);
    return value.has_value();
  }
  if (absl::ConsumePrefix(text, "{")) return ConsumeItems(text, "}", true, depth + 1, out);
  if (absl::ConsumePrefix(text, "[")) return ConsumeItems(text, "]", false, depth + 1, out);
  if (absl::ConsumePrefix(text, "(")) return ConsumeItems(text, ")", false, depth + 1, out);
  if (!absl::ascii_isalpha(c)) return ConsumeNumber(text, out);
  const absl::string_view word = ConsumeName(text);
  const char* value = word == "True" || word == "true"     ? "true"
                      : word == "False" || word == "false" ? "false"
                      : word == "None" || word == "null"   ? "null"
                                                           : nullptr;
  if (value != nullptr) absl::StrAppend(out, value);
  return value != nullptr;
}

}  // namespace

bool ConsumePythonValue(absl::string_view* text, std::string* out) { return ConsumeValue(text, 0, out); }

bool ConsumePythonArguments(absl::string_view* text, std::string* out) {
  if (!Consume(text, "(")) return false;
  out->push_back('{');
  for (bool first = true; !Consume(text, ")"); first = false) {
    if (!first) {
      if (!Consume(text, ",")) return false;
      if (Consume(text, ")")) break;
      out->push_back(',');
    }
    const absl::string_view name = ConsumeName(text);
    if (name.empty() || !Consume(text, "=")) return false;
    AppendJsonString(name, out);
    out->push_back(':');
    if (!ConsumeValue(text, 0, out)) return false;
  }
  out->push_back('}');
  return true;
}

}  // namespace tandem::gateway
