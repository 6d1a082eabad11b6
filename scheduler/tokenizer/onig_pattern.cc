// From Oniguruma's reading of a pattern to PCRE2's. One pass; the only state is "inside a class or not".
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/tokenizer/regex.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

// PCRE2's own \s knows U+180E as a space, its \w knows neither marks nor connectors. These are Oniguruma's sets.
constexpr absl::string_view kSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr absl::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr absl::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149})"
    R"(\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

class Translator {
 public:
  explicit Translator(absl::string_view in) : in_(in) {}

  absl::StatusOr<std::string> Run() {
    while (pos_ < in_.size()) {
      if (absl::Status status = in_class_ ? InClass() : Outside(); !status.ok()) return status;
    }
    if (in_class_) return Refuse("a class without its ]");
    return std::move(out_);
  }

 private:
  absl::Status Refuse(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("regex: ", what, " at byte ", pos_, " is not supported"));
  }

  bool At(absl::string_view s) const { return in_.substr(pos_, s.size()) == s; }

  void Copy(size_t n) {
    out_.append(in_.data() + pos_, n);
    pos_ += n;
  }

  absl::Status Outside() {
    switch (in_[pos_]) {
      case '\\':
        return Escape();
      case '[':
        in_class_ = true;
        Copy(1);
        if (At("^")) Copy(1);
        if (At("]")) return Refuse("']' as the first of a class");
        return absl::OkStatus();
      case '(':
        // PCRE2's verbs and Oniguruma's callouts share the form; neither belongs in a tokenizer.
        if (At("(*")) return Refuse("(*");
        if (At("(?")) return Group();
        Copy(1);
        return absl::OkStatus();
      case '^':
      case '$':
        return Refuse(in_.substr(pos_, 1));
      case '}':
        if (At("}+")) return Refuse("{n,m}+");
        Copy(1);
        return absl::OkStatus();
      default:
        Copy(1);
        return absl::OkStatus();
    }
  }

  absl::Status Group() {
    for (absl::string_view opening : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"}) {
      if (At(opening)) {
        Copy(opening.size());
        return absl::OkStatus();
      }
    }
    // Further in, Oniguruma lets it reach over the following alternatives, PCRE2 does not.
    if (At("(?i)") && pos_ == 0) {
      Copy(4);
      return absl::OkStatus();
    }
    return Refuse(in_.substr(pos_, 4));
  }

  absl::Status InClass() {
    switch (in_[pos_]) {
      case '\\':
        return Escape();
      case ']':
        in_class_ = false;
        Copy(1);
        return absl::OkStatus();
      case '[':
        return Refuse("a class inside a class");
      case '&':
        if (At("&&")) return Refuse("&&");
        Copy(1);
        return absl::OkStatus();
      default:
        Copy(1);
        return absl::OkStatus();
    }
  }

  // A set, in the form that its place wants.
  void Set(absl::string_view members, bool negated) {
    if (in_class_) {
      absl::StrAppend(&out_, members);
    } else {
      absl::StrAppend(&out_, negated ? "[^" : "[", members, "]");
    }
    pos_ += 2;
  }

  absl::Status Escape() {
    if (pos_ + 1 == in_.size()) return Refuse("a \\ at the end");
    const char c = in_[pos_ + 1];
    switch (c) {
      case 's':
        Set(kSpace, false);
        return absl::OkStatus();
      case 'S':
        Set(in_class_ ? kNotSpace : kSpace, true);
        return absl::OkStatus();
      case 'w':
        Set(kWord, false);
        return absl::OkStatus();
      case 'W':
        if (in_class_) return Refuse("\\W in a class");
        Set(kWord, true);
        return absl::OkStatus();
      case 'd':
        absl::StrAppend(&out_, "\\p{Nd}");
        pos_ += 2;
        return absl::OkStatus();
      case 'D':
        absl::StrAppend(&out_, "\\P{Nd}");
        pos_ += 2;
        return absl::OkStatus();
      case 'p':
      case 'P':
        return Property();
      case 'u':
        return CodePoint(2, 4);
      case 'x':
        return At("\\x{") ? CodePointInBraces() : CodePoint(2, 2);
      case 'n':
      case 'r':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      default:
        if (static_cast<unsigned char>(c) >= 0x80 || absl::ascii_isalnum(static_cast<unsigned char>(c))) {
          return Refuse(in_.substr(pos_, 2));
        }
        Copy(2);
        return absl::OkStatus();
    }
  }

  // PCRE2 checks the name itself. A script's name alone would mean its extensions too; Oniguruma means the script.
  absl::Status Property() {
    const size_t end = in_.find('}', pos_);
    if (pos_ + 2 >= in_.size() || in_[pos_ + 2] != '{' || end == absl::string_view::npos) {
      return Refuse("a property without {name}");
    }
    absl::string_view name = in_.substr(pos_ + 3, end - pos_ - 3);
    bool negated = in_[pos_ + 1] == 'P';
    if (absl::ConsumePrefix(&name, "^")) negated = !negated;
    const bool script = name.size() > 2 && name != "Any";
    absl::StrAppend(&out_, negated ? "\\P{" : "\\p{", script ? "sc:" : "", name, "}");
    pos_ = end + 1;
    return absl::OkStatus();
  }

  absl::Status CodePoint(size_t skip, size_t digits) {
    const absl::string_view hex = in_.substr(std::min(in_.size(), pos_ + skip), digits);
    if (hex.size() < digits) return Refuse("a short escape");
    for (char h : hex) {
      if (!absl::ascii_isxdigit(static_cast<unsigned char>(h))) return Refuse("an escape that is not hexadecimal");
    }
    absl::StrAppend(&out_, "\\x{", hex, "}");
    pos_ += skip + digits;
    return absl::OkStatus();
  }

  absl::Status CodePointInBraces() {
    const size_t end = in_.find('}', pos_);
    if (end == absl::string_view::npos) return Refuse("\\x{ without }");
    for (char h : in_.substr(pos_ + 3, end - pos_ - 3)) {
      if (!absl::ascii_isxdigit(static_cast<unsigned char>(h))) return Refuse("an escape that is not hexadecimal");
    }
    Copy(end + 1 - pos_);
    return absl::OkStatus();
  }

  absl::string_view in_;
  size_t pos_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> TranslateOnigPattern(absl::string_view pattern) {
  if (FindInvalidUtf8(pattern).has_value()) return absl::InvalidArgumentError("regex: not valid UTF-8");
  return Translator(pattern).Run();
}

}  // namespace tandem::tokenizer
