#include "scheduler/chat_template/lexer.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/python_text.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {
namespace {

// What templates in use have stays below 50 KB.
constexpr size_t kLongestSource = 1 << 20;

std::string NormalizeNewlines(absl::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  return out;
}

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsNameChar(char c) { return IsNameStart(c) || absl::ascii_isdigit(static_cast<unsigned char>(c)); }
bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (error_.ok() && at_ < source_.size()) TakeData();
    if (!error_.ok()) return error_;
    Add(Token::Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  enum class Tag { kOutput, kBlock, kComment };

  void Fail(absl::string_view reason) {
    if (error_.ok()) error_ = absl::InvalidArgumentError(absl::StrCat("line ", line_, ": ", reason));
    at_ = source_.size();
  }
  bool At(absl::string_view text) const { return source_.compare(at_, text.size(), text.data(), text.size()) == 0; }
  char Peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  void MoveTo(size_t to) {
    line_ += static_cast<int>(
        std::count(source_.begin() + static_cast<long>(at_), source_.begin() + static_cast<long>(to), '\n'));
    if (to > at_) line_starting_ = source_[to - 1] == '\n';
    at_ = to;
  }
  void Add(Token::Kind kind, std::string text = {}) {
    Token token;
    token.kind = kind;
    token.line = line_;
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
  }

  size_t SkipSpace(size_t from) const {
    while (from < source_.size()) {
      size_t next = from;
      if (!IsPythonSpace(tokenizer::TakeChar(source_, &next))) break;
      from = next;
    }
    return from;
  }

  // What stays of the text [at_, tag) before a tag with this sign.
  size_t DataEnd(size_t tag, char sign, bool may_lstrip) const {
    absl::string_view text(source_.data() + at_, tag - at_);
    if (sign == '-') return at_ + Strip(Text(std::string(text)), Side::kRight, nullptr).size();
    if (sign == '+' || !may_lstrip) return tag;
    const size_t newline = text.rfind('\n');
    if (newline == absl::string_view::npos && !line_starting_) return tag;
    const size_t line_start = newline == absl::string_view::npos ? at_ : at_ + newline + 1;
    return SkipSpace(line_start) >= tag ? line_start : tag;
  }

  // Text up to the next tag, and that tag.
  void TakeData() {
    size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        Add(Token::Kind::kData, source_.substr(at_));
        at_ = source_.size();
        return;
      }
      const char second = source_[tag + 1];
      if (second == '{' || second == '%' || second == '#') break;
      ++tag;
    }
    const char second = source_[tag + 1];
    const Tag kind = second == '{' ? Tag::kOutput : second == '%' ? Tag::kBlock : Tag::kComment;
    size_t inside = tag + 2;
    char sign = '\0';
    if (inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+')) sign = source_[inside++];
    const size_t end = DataEnd(tag, sign, kind != Tag::kOutput);
    if (end > at_) Add(Token::Kind::kData, source_.substr(at_, end - at_));
    MoveTo(inside);
    if (kind == Tag::kComment) return TakeComment();
    if (kind == Tag::kBlock && TakeRaw()) return;
    Add(kind == Tag::kOutput ? Token::Kind::kOutputBegin : Token::Kind::kBlockBegin);
    TakeExpression(kind == Tag::kOutput);
  }

  // Behind the "}" of a block or comment: the newline that trim_blocks takes.
  size_t TrimNewline(size_t at) const { return at < source_.size() && source_[at] == '\n' ? at + 1 : at; }

  // The position behind an end tag ("%}" with its sign) that begins at `at`.
  std::optional<size_t> EndOfTag(size_t at, absl::string_view closing, bool trims) const {
    const char sign = at < source_.size() ? source_[at] : '\0';
    const bool has_minus = sign == '-', has_plus = sign == '+' && trims;
    if (has_minus || has_plus) ++at;
    if (source_.compare(at, closing.size(), closing.data(), closing.size()) != 0) return std::nullopt;
    at += closing.size();
    if (has_minus) return SkipSpace(at);
    return trims && !has_plus ? TrimNewline(at) : at;
  }

  void TakeComment() {
    for (size_t at = at_; at < source_.size(); ++at) {
      if (const auto end = EndOfTag(at, "#}", true)) return MoveTo(*end);
    }
    Fail("a comment has no end");
  }

  // {% raw %} up to {% endraw %}; false where the tag is another one.
  bool TakeRaw() {
    size_t at = SkipSpace(at_);
    if (source_.compare(at, 3, "raw") != 0) return false;
    at = SkipSpace(at + 3);
    const bool minus = at < source_.size() && source_[at] == '-';
    if (minus) ++at;
    if (source_.compare(at, 2, "%}") != 0) return false;
    MoveTo(minus ? SkipSpace(at + 2) : at + 2);
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      size_t inside = tag + 2;
      char sign = '\0';
      if (inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+')) sign = source_[inside++];
      inside = SkipSpace(inside);
      if (source_.compare(inside, 6, "endraw") != 0) continue;
      const auto end = EndOfTag(SkipSpace(inside + 6), "%}", true);
      if (!end) continue;
      const size_t data_end = DataEnd(tag, sign, true);
      if (data_end > at_) Add(Token::Kind::kData, source_.substr(at_, data_end - at_));
      MoveTo(*end);
      return true;
    }
    Fail("{% raw %} has no end");
    return true;
  }

  void TakeExpression(bool output) {
    const absl::string_view closing = output ? "}}" : "%}";
    std::string open;  // brackets: an end tag inside of them is two operators
    while (at_ < source_.size()) {
      if (open.empty()) {
        if (const auto end = EndOfTag(at_, closing, !output)) {
          Add(output ? Token::Kind::kOutputEnd : Token::Kind::kBlockEnd);
          return MoveTo(*end);
        }
      }
      const size_t space = SkipSpace(at_);
      if (space > at_) {
        MoveTo(space);
      } else if (IsDigit(Peek())) {
        TakeNumber();
      } else if (IsNameStart(Peek())) {
        size_t end = at_;
        while (end < source_.size() && IsNameChar(source_[end])) ++end;
        Add(Token::Kind::kName, source_.substr(at_, end - at_));
        MoveTo(end);
      } else if (Peek() == '\'' || Peek() == '"') {
        TakeString();
      } else {
        TakeOperator(&open);
      }
    }
    Fail(output ? "{{ has no end" : "{% has no end");
  }

  void TakeOperator(std::string* open) {
    static constexpr absl::string_view kOperators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/",
                                                       "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                       ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto* found = std::find_if(std::begin(kOperators), std::end(kOperators), [&](auto text) { return At(text); });
    if (found == std::end(kOperators)) return Fail("a character that no expression has");
    const char c = found->front();
    if (found->size() == 1 && (c == '(' || c == '[' || c == '{'))
      open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (c == ')' || c == ']' || c == '}') {
      if (open->empty() || open->back() != c) return Fail(absl::StrCat("unexpected '", std::string(1, c), "'"));
      open->pop_back();
    }
    Add(Token::Kind::kOperator, std::string(*found));
    MoveTo(at_ + found->size());
  }

  void TakeNumber() {
    const auto digits = [&](size_t at) {
      while (at < source_.size() &&
             (IsDigit(source_[at]) || (source_[at] == '_' && at + 1 < source_.size() && IsDigit(source_[at + 1])))) {
        ++at;
      }
      return at;
    };
    size_t end = digits(at_);
    bool real = false;
    if (at_ == 0 || source_[at_ - 1] != '.') {  // "a.0.1" has no fraction
      if (end + 1 < source_.size() && source_[end] == '.' && IsDigit(source_[end + 1])) {
        end = digits(end + 1);
        real = true;
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        size_t exponent = end + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && IsDigit(source_[exponent])) {
          end = digits(exponent);
          real = true;
        }
      }
    }
    std::string text = source_.substr(at_, end - at_);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    Add(real ? Token::Kind::kFloat : Token::Kind::kInt);
    const char *begin = text.data(), *stop = text.data() + text.size();
    const auto result =
        real ? std::from_chars(begin, stop, tokens_.back().real) : std::from_chars(begin, stop, tokens_.back().number);
    if (result.ec != std::errc() || result.ptr != stop) return Fail("a number that is too large");
    if (end < source_.size() && IsNameChar(source_[end])) return Fail("a number with letters; write it in decimal");
    MoveTo(end);
  }

  void TakeString() {
    const char quote = Peek();
    Add(Token::Kind::kString);
    std::string* out = &tokens_.back().text;
    size_t at = at_ + 1;
    while (at < source_.size() && source_[at] != quote) {
      if (source_[at] != '\\') {
        out->push_back(source_[at++]);
        continue;
      }
      if (at + 1 >= source_.size()) break;
      const size_t after = TakeEscape(at + 1, out);
      if (after == 0) return Fail("a string with an escape that is not understood");
      at = after;
    }
    if (at >= source_.size()) return Fail("a string has no end");
    MoveTo(at + 1);
  }

  // The escape whose letter is at `at`; returns the position behind it, 0 where it is none.
  size_t TakeEscape(size_t at, std::string* out) {
    static constexpr absl::string_view kLetters = "abfnrtv\\'\"", kValues = "\a\b\f\n\r\t\v\\'\"";
    const char c = source_[at];
    if (const size_t i = kLetters.find(c); i != absl::string_view::npos) {
      out->push_back(kValues[i]);
      return at + 1;
    }
    if (c == '\n') return at + 1;
    if (c == 'N') return 0;
    const size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    const bool octal = c >= '0' && c <= '7';
    if (hex == 0 && !octal) {  // Python keeps what it does not know
      out->push_back('\\');
      return at;
    }
    size_t begin = hex > 0 ? at + 1 : at, end = begin;
    if (hex > 0) {
      end = begin + hex;
    } else {
      while (end < begin + 3 && end < source_.size() && source_[end] >= '0' && source_[end] <= '7') ++end;
    }
    if (end > source_.size()) return 0;
    uint32_t code = 0;
    const auto result = std::from_chars(source_.data() + begin, source_.data() + end, code, hex > 0 ? 16 : 8);
    if (result.ec != std::errc() || result.ptr != source_.data() + end) return 0;
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0;
    tokenizer::AppendChar(code, out);
    return end;
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // nothing but a newline stands before at_
  std::vector<Token> tokens_;
  absl::Status error_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source) {
  if (source.size() > kLongestSource) {
    return absl::InvalidArgumentError(
        absl::StrCat("the template has ", source.size(), " bytes; the limit is ", kLongestSource));
  }
  std::string text = NormalizeNewlines(source);
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return Lexer(std::move(text)).Run();
}

}  // namespace tandem::chat
