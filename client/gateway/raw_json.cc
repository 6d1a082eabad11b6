#include "client/gateway/raw_json.h"

#include "absl/strings/ascii.h"

namespace tandem::gateway {
namespace {

size_t StringEnd(absl::string_view text) {
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      return i + 1;
    }
  }
  return text.size();
}

// Of valid JSON: the value that `text` begins with.
absl::string_view FirstValue(absl::string_view text) {
  if (text.empty()) return text;
  if (text[0] == '"') return text.substr(0, StringEnd(text));
  if (text[0] == '{' || text[0] == '[') return text.substr(0, ValueScan().End(text).value_or(text.size()));
  return absl::StripTrailingAsciiWhitespace(text.substr(0, text.find_first_of(",]}")));
}

}  // namespace

std::optional<size_t> ValueScan::End(absl::string_view text) {
  while (at_ < text.size()) {
    const char c = text[at_++];
    if (quote_ != 0) {
      if (c == '\\') {
        ++at_;
      } else if (c == quote_) {
        quote_ = 0;
      }
    } else if (c == '"' || (python_ && c == '\'')) {
      quote_ = c;
    } else if (c == '{' || c == '[' || (python_ && c == '(')) {
      ++depth_;
    } else if ((c == '}' || c == ']' || (python_ && c == ')')) && --depth_ == 0) {
      return at_;
    }
  }
  return std::nullopt;
}

std::optional<absl::string_view> RawMember(absl::string_view object, absl::string_view name) {
  std::optional<absl::string_view> found;
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(object).substr(1);
  for (;;) {
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (rest.empty() || rest[0] != '"') return found;  // the closing brace
    const absl::string_view key = FirstValue(rest);
    rest = absl::StripLeadingAsciiWhitespace(rest.substr(key.size())).substr(1);  // the colon
    const absl::string_view value = FirstValue(absl::StripLeadingAsciiWhitespace(rest));
    if (key.substr(1, key.size() - 2) == name) found = value;
    rest = absl::StripLeadingAsciiWhitespace(rest.substr(value.data() + value.size() - rest.data()));
    if (rest.empty() || rest[0] != ',') return found;
    rest.remove_prefix(1);
  }
}

std::vector<absl::string_view> RawElements(absl::string_view array) {
  std::vector<absl::string_view> elements;
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(array).substr(1);
  for (;;) {
    rest = absl::StripLeadingAsciiWhitespace(rest);
    if (rest.empty() || rest[0] == ']') return elements;
    elements.push_back(FirstValue(rest));
    rest = absl::StripLeadingAsciiWhitespace(rest.substr(elements.back().size()));
    if (rest.empty() || rest[0] != ',') return elements;
    rest.remove_prefix(1);
  }
}

}  // namespace tandem::gateway
