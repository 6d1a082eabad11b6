#include "scheduler/chat_template/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/chat_template/python_text.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {
namespace {

std::string Repr(absl::string_view utf8) {
  const bool double_quotes = utf8.find('\'') != absl::string_view::npos && utf8.find('"') == absl::string_view::npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < utf8.size();) {
    const size_t begin = at;
    const char32_t c = tokenizer::TakeChar(utf8, &at);
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (IsPrintable(c)) {
      out.append(utf8.data() + begin, at - begin);
    } else if (c <= 0xFF) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<uint32_t>(c));
    } else if (c <= 0xFFFF) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<uint32_t>(c));
    } else {
      absl::StrAppendFormat(&out, "\\U%08x", static_cast<uint32_t>(c));
    }
  }
  out.push_back(quote);
  return out;
}

std::string JsonString(absl::string_view utf8, bool ensure_ascii) {
  std::string out = "\"";
  for (size_t at = 0; at < utf8.size();) {
    const size_t begin = at;
    const char32_t c = tokenizer::TakeChar(utf8, &at);
    static constexpr absl::string_view kPlain = "\"\\\n\r\t\b\f", kLetters = "\"\\nrtbf";
    const size_t special = c < 0x80 ? kPlain.find(static_cast<char>(c)) : absl::string_view::npos;
    if (special != absl::string_view::npos) {
      out.push_back('\\');
      out.push_back(kLetters[special]);
    } else if (c >= 0x20 && (c < 0x7F || !ensure_ascii)) {
      out.append(utf8.data() + begin, at - begin);
    } else if (c <= 0xFFFF) {
      absl::StrAppendFormat(&out, "\\u%04x", static_cast<uint32_t>(c));
    } else {
      const uint32_t rest = static_cast<uint32_t>(c) - 0x10000;
      absl::StrAppendFormat(&out, "\\u%04x\\u%04x", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
    }
  }
  out.push_back('"');
  return out;
}

class Writer {
 public:
  explicit Writer(Budget* budget) : budget_(*budget) {}

  void Python(const Value& value) {
    if (!budget_.Step()) return;
    switch (value.kind()) {
      case Value::Kind::kUndefined:
        return Put("Undefined");
      case Value::Kind::kString:
        return Put(Repr(value.bytes()));
      case Value::Kind::kList:
      case Value::Kind::kTuple: {
        const bool tuple = value.Is(Value::Kind::kTuple);
        Put(tuple ? "(" : "[");
        for (size_t i = 0; i < value.items().size(); ++i) {
          if (i > 0) Put(", ");
          Python(value.items()[i]);
        }
        return Put(!tuple ? "]" : value.items().size() == 1 ? ",)" : ")");
      }
      case Value::Kind::kDict: {
        Put("{");
        bool first = true;
        for (const auto& [key, item] : value.dict().entries()) {
          if (!first) Put(", ");
          first = false;
          Python(key);
          Put(": ");
          Python(item);
        }
        return Put("}");
      }
      default:
        Scalar(value);
    }
  }

  void Scalar(const Value& value) {
    switch (value.kind()) {
      case Value::Kind::kNone:
        return Put("None");
      case Value::Kind::kBool:
        return Put(value.AsInt() != 0 ? "True" : "False");
      case Value::Kind::kInt:
        return Put(absl::StrCat(value.AsInt()));
      case Value::Kind::kFloat:
        return Put(FloatText(value.AsFloat()));
      default:
        budget_.Fail(absl::StrCat("a ", value.TypeName(), " cannot be printed"));
    }
  }

  void Json(const Value& value, const JsonStyle& style, int level) {
    if (!budget_.Step()) return;
    switch (value.kind()) {
      case Value::Kind::kNone:
        return Put("null");
      case Value::Kind::kBool:
        return Put(value.AsInt() != 0 ? "true" : "false");
      case Value::Kind::kInt:
        return Put(absl::StrCat(value.AsInt()));
      case Value::Kind::kFloat:
        return Put(JsonNumber(value.AsFloat()));
      case Value::Kind::kString:
        return Put(JsonString(value.bytes(), style.ensure_ascii));
      case Value::Kind::kList:
      case Value::Kind::kTuple: {
        if (value.items().empty()) return Put("[]");
        Put("[");
        for (size_t i = 0; i < value.items().size(); ++i) {
          Separate(style, level + 1, i == 0);
          Json(value.items()[i], style, level + 1);
        }
        NewLine(style, level);
        return Put("]");
      }
      case Value::Kind::kDict: {
        auto entries = value.dict().entries();
        if (entries.empty()) return Put("{}");
        if (style.sort_keys) {
          std::stable_sort(entries.begin(), entries.end(),
                           [](const auto& a, const auto& b) { return Less(a.first, b.first).value_or(false); });
        }
        Put("{");
        bool first = true;
        for (const auto& [key, item] : entries) {
          Separate(style, level + 1, first);
          first = false;
          Put(JsonString(KeyText(key), style.ensure_ascii));
          Put(style.key_separator);
          Json(item, style, level + 1);
        }
        NewLine(style, level);
        return Put("}");
      }
      default:
        budget_.Fail(absl::StrCat("a ", value.TypeName(), " is no JSON"));
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  void Put(absl::string_view text) {
    if (budget_.Bytes(text.size())) out_.append(text.data(), text.size());
  }
  void NewLine(const JsonStyle& style, int level) {
    if (!style.indented) return;
    Put("\n");
    for (int i = 0; i < level; ++i) Put(style.indent);
  }
  void Separate(const JsonStyle& style, int level, bool first) {
    if (!first) Put(style.item_separator);
    NewLine(style, level);
  }
  static std::string JsonNumber(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return FloatText(number);
  }
  static std::string KeyText(const Value& key) {
    switch (key.kind()) {
      case Value::Kind::kString:
        return key.bytes();
      case Value::Kind::kNone:
        return "null";
      case Value::Kind::kBool:
        return key.AsInt() != 0 ? "true" : "false";
      case Value::Kind::kInt:
        return absl::StrCat(key.AsInt());
      default:
        return JsonNumber(key.AsFloat());
    }
  }

  Budget& budget_;
  std::string out_;
};

}  // namespace

std::string FloatText(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), number, std::chars_format::scientific).ptr;
  const absl::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  const bool negative = text[0] == '-';
  std::string digits;
  for (char c : text.substr(negative, e - negative)) {
    if (c != '.') digits.push_back(c);
  }
  int exponent = 0;
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), end, exponent);
  std::string out(negative ? "-" : "");
  if (exponent < -4 || exponent >= 16) {
    out.append(digits, 0, 1);
    if (digits.size() > 1) absl::StrAppend(&out, ".", digits.substr(1));
    absl::StrAppendFormat(&out, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return out;
  }
  if (exponent < 0) return absl::StrCat(out, "0.", std::string(static_cast<size_t>(-exponent - 1), '0'), digits);
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  absl::StrAppend(&out, digits.substr(0, whole), ".", digits.size() > whole ? digits.substr(whole) : "0");
  return out;
}

Text Str(const Value& value, Budget* budget) {
  if (!value.defined()) return Text();
  if (value.is_string()) return value.text();
  Writer writer(budget);
  if (value.is_sequence() || value.Is(Value::Kind::kDict)) {
    writer.Python(value);
  } else {
    writer.Scalar(value);
  }
  return value.AnyGiven() ? Text::Given(writer.Take()) : Text(writer.Take());
}

Text ToJson(const Value& value, const JsonStyle& style, Budget* budget) {
  Writer writer(budget);
  writer.Json(value, style, 0);
  return value.AnyGiven() ? Text::Given(writer.Take()) : Text(writer.Take());
}

}  // namespace tandem::chat
