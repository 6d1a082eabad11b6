#include "scheduler/core/text.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

namespace tandem::core {
namespace {

constexpr int kDeepest = 8;  // the deepest true value nests 4

bool IsPlain(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' || c == '/' ||
         c == ':' || c == '*' || c == '+';
}

void PutHex(std::string& out, uint64_t number) {
  for (int shift = 60; shift >= 0; shift -= 4) out += "0123456789abcdef"[number >> shift & 15];
}
void PutHex(std::string& out, uint64_t hi, uint64_t lo) {
  PutHex(out, hi);
  PutHex(out, lo);
}

bool GetHex(const std::string& text, uint64_t& hi, uint64_t& lo) {
  if (text.size() != 32) return false;
  const auto half = [&](size_t from, uint64_t& value) {
    const char* end = text.data() + from + 16;
    const auto [stop, error] = std::from_chars(text.data() + from, end, value, 16);
    return error == std::errc() && stop == end;
  };
  return half(0, hi) && half(16, lo);
}

template <typename T>
bool GetNumber(absl::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return !text.empty() && error == std::errc() && stop == end;
}

// "d3" with the prefix 'd'.
template <typename T>
bool GetPrefixed(const std::string& text, absl::string_view prefix, T& value) {
  const absl::string_view all(text);
  return all.substr(0, prefix.size()) == prefix && GetNumber(all.substr(std::min(prefix.size(), all.size())), value);
}

// "1.4"
bool GetPair(absl::string_view text, uint64_t& leader, uint32_t& counter) {
  const size_t dot = text.find('.');
  return dot != absl::string_view::npos && GetNumber(text.substr(0, dot), leader) &&
         GetNumber(text.substr(dot + 1), counter);
}

class Parser {
 public:
  explicit Parser(absl::string_view text) : text_(text) {}

  absl::StatusOr<TextLine> Line() {
    TextLine line;
    line.word = Bare();
    if (line.word.empty()) return Error("a word is wanted");
    line.pairs.kind = TextValue::Kind::kPairs;
    if (absl::Status status = Pairs(line.pairs, 0); !status.ok()) return status;
    if (at_ != text_.size()) return Error("nothing more is wanted");
    return line;
  }

 private:
  absl::Status Error(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("column ", at_ + 1, ": ", what));
  }
  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  void SkipSpace() {
    while (Peek() == ' ') ++at_;
  }
  std::string Bare() {
    const size_t from = at_;
    while (!AtEnd() && IsPlain(text_[at_])) ++at_;
    return std::string(text_.substr(from, at_ - from));
  }

  absl::Status Pairs(TextValue& value, int depth) {
    for (SkipSpace(); !AtEnd() && Peek() != '}'; SkipSpace()) {
      const std::string key = Bare();
      if (key.empty()) return Error("a key is wanted");
      if (Peek() != '=') return Error("'=' is wanted");
      ++at_;
      const auto [it, fresh] = value.pairs.emplace(key, TextValue{});
      if (!fresh) return Error(absl::StrCat("'", key, "' stands here twice"));
      if (absl::Status status = One(it->second, depth + 1); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status One(TextValue& value, int depth) {
    if (depth > kDeepest) return Error("nested too deeply");
    if (Peek() == '"') return Quoted(value.scalar);
    if (Peek() == '{') {
      ++at_;
      value.kind = TextValue::Kind::kPairs;
      if (absl::Status status = Pairs(value, depth); !status.ok()) return status;
      if (Peek() != '}') return Error("'}' is wanted");
      ++at_;
      return absl::OkStatus();
    }
    if (Peek() == '[') {
      ++at_;
      value.kind = TextValue::Kind::kList;
      for (SkipSpace(); !AtEnd() && Peek() != ']'; SkipSpace()) {
        if (absl::Status status = One(value.items.emplace_back(), depth + 1); !status.ok()) return status;
      }
      if (AtEnd()) return Error("']' is wanted");
      ++at_;
      return absl::OkStatus();
    }
    value.scalar = Bare();
    return value.scalar.empty() ? Error("a value is wanted") : absl::OkStatus();
  }

  absl::Status Quoted(std::string& out) {
    const size_t from = ++at_;
    while (!AtEnd() && Peek() != '"') at_ += Peek() == '\\' ? 2 : 1;
    if (at_ >= text_.size()) {
      at_ = text_.size();
      return Error("the quote is not closed");
    }
    std::string error;
    if (!absl::CUnescape(text_.substr(from, at_ - from), &out, &error)) return Error(error);
    ++at_;
    return absl::OkStatus();
  }

  absl::string_view text_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<TextLine> ParseTextLine(absl::string_view line) { return Parser(line).Line(); }

void PutScalar(std::string& out, const std::string& text) {
  if (!text.empty() && std::all_of(text.begin(), text.end(), IsPlain)) {
    out += text;
    return;
  }
  out += '"';
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      absl::StrAppendFormat(&out, "\\%03o", static_cast<unsigned char>(c));
    }
  }
  out += '"';
}
void PutScalar(std::string& out, bool value) { out += value ? "true" : "false"; }
void PutScalar(std::string& out, double value) { absl::StrAppendFormat(&out, "%.17g", value); }
void PutScalar(std::string& out, int64_t value) { absl::StrAppend(&out, value); }
void PutScalar(std::string& out, uint64_t value) { absl::StrAppend(&out, value); }
void PutScalar(std::string& out, DeviceId id) { absl::StrAppend(&out, "d", id.value); }
void PutScalar(std::string& out, ModelId id) { absl::StrAppend(&out, "m", id.value); }
void PutScalar(std::string& out, GroupId id) { absl::StrAppend(&out, "g", id.value >> 32, ".", id.value & 0xffffffff); }
void PutScalar(std::string& out, RequestId id) { PutHex(out, id.hi, id.lo); }
void PutScalar(std::string& out, Incarnation id) { PutHex(out, id.hi, id.lo); }
void PutScalar(std::string& out, OperationId id) { absl::StrAppend(&out, "op", id.value); }
void PutScalar(std::string& out, GroupEpoch epoch) { absl::StrAppend(&out, epoch.leader, ".", epoch.counter); }
void PutScalar(std::string& out, Attempt attempt) { absl::StrAppend(&out, attempt.leader, ".", attempt.counter); }
void PutScalar(std::string& out, Bytes value) { absl::StrAppend(&out, value.value); }
void PutScalar(std::string& out, Tokens value) { absl::StrAppend(&out, value.value); }
void PutScalar(std::string& out, Duration value) { absl::StrAppend(&out, value.us); }
void PutScalar(std::string& out, Instant value) {
  if (value == kNever) {
    out += "never";
  } else {
    absl::StrAppend(&out, value.us);
  }
}
void PutScalar(std::string& out, const std::array<uint8_t, 16>& hash) {
  for (uint8_t byte : hash) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
}

bool GetScalar(const std::string& text, std::string& value) {
  value = text;
  return true;
}
bool GetScalar(const std::string& text, bool& value) {
  value = text == "true";
  return value || text == "false";
}
bool GetScalar(const std::string& text, double& value) { return absl::SimpleAtod(text, &value); }
bool GetScalar(const std::string& text, int64_t& value) { return GetNumber(text, value); }
bool GetScalar(const std::string& text, uint64_t& value) { return GetNumber(text, value); }
bool GetScalar(const std::string& text, DeviceId& id) { return GetPrefixed(text, "d", id.value); }
bool GetScalar(const std::string& text, ModelId& id) { return GetPrefixed(text, "m", id.value); }
bool GetScalar(const std::string& text, GroupId& id) {
  uint64_t leader = 0;
  uint32_t counter = 0;
  if (text.empty() || text[0] != 'g' || !GetPair(absl::string_view(text).substr(1), leader, counter)) return false;
  if (leader > std::numeric_limits<uint32_t>::max()) return false;
  id.value = leader << 32 | counter;
  return true;
}
bool GetScalar(const std::string& text, RequestId& id) { return GetHex(text, id.hi, id.lo); }
bool GetScalar(const std::string& text, Incarnation& id) { return GetHex(text, id.hi, id.lo); }
bool GetScalar(const std::string& text, OperationId& id) { return GetPrefixed(text, "op", id.value); }
bool GetScalar(const std::string& text, GroupEpoch& epoch) { return GetPair(text, epoch.leader, epoch.counter); }
bool GetScalar(const std::string& text, Attempt& attempt) { return GetPair(text, attempt.leader, attempt.counter); }
bool GetScalar(const std::string& text, Bytes& value) { return GetNumber(text, value.value); }
bool GetScalar(const std::string& text, Tokens& value) { return GetNumber(text, value.value); }
bool GetScalar(const std::string& text, Duration& value) { return GetNumber(text, value.us); }
bool GetScalar(const std::string& text, Instant& value) {
  if (text == "never") {
    value = kNever;
    return true;
  }
  return GetNumber(text, value.us);
}
bool GetScalar(const std::string& text, std::array<uint8_t, 16>& hash) {
  uint64_t halves[2];
  if (!GetHex(text, halves[0], halves[1])) return false;
  for (int i = 0; i < 16; ++i) hash[i] = static_cast<uint8_t>(halves[i / 8] >> (56 - 8 * (i % 8)));
  return true;
}

}  // namespace tandem::core
