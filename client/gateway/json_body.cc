#include "client/gateway/json_body.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/gateway/raw_json.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

// Counts what a parser would make of the text, without making it. Strings are skipped; whether the rest is JSON is the
// parser's to say.
std::optional<ApiError> TooBig(absl::string_view text) {
  int depth = 0;
  size_t values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        break;
      case '[':
      case '{':
        if (++depth > kDeepestJson) {
          return InvalidParameter("", absl::StrCat("the body is nested deeper than ", kDeepestJson, " levels"));
        }
        ++values;
        break;
      case ']':
      case '}':
        --depth;
        break;
      case ',':
        ++values;
        break;
    }
    if (values > kMostJsonValues) {
      return InvalidParameter("", absl::StrCat("the body has more than ", kMostJsonValues, " values"));
    }
  }
  return std::nullopt;
}

}  // namespace

std::variant<json, ApiError> ParseBody(absl::string_view body) {
  if (auto error = TooBig(body)) return *std::move(error);
  try {
    json parsed = json::parse(body.begin(), body.end());
    if (!parsed.is_object()) {
      return InvalidParameter("", absl::StrCat("the body must be a JSON object, and is ", KindOf(parsed)));
    }
    return parsed;
  } catch (const json::parse_error& e) {
    return InvalidParameter(
        "", absl::StrCat("the body is not JSON: something is wrong at byte ", e.byte, " of ", body.size()));
  } catch (const json::exception&) {
    return InvalidParameter("", "the body has a number that is out of range");
  }
}

const char* KindOf(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "an array";
    case json::value_t::string:
      return "a string";
    case json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

std::optional<std::vector<uint32_t>> TokenIds(const json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<uint32_t> ids;
  ids.reserve(value.size());
  for (const json& id : value) {
    if (!id.is_number_unsigned()) return std::nullopt;
    const uint64_t number = id.get<uint64_t>();
    if (number > UINT32_MAX) return std::nullopt;
    ids.push_back(static_cast<uint32_t>(number));
  }
  return ids;
}

Fields::Fields(const json& object, std::string path, absl::string_view text)
    : object_(object), path_(std::move(path)), text_(text) {}

const json* Fields::Find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Fields::Fail(ApiError error) {
  if (!error_.has_value()) error_ = std::move(error);
}
void Fields::Fail(const char* name, absl::string_view what) {
  const std::string full = path_ + name;
  Fail(InvalidParameter(full, absl::StrCat(full, " ", what)));
}

std::optional<double> Fields::Number(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return value->get<double>();
  Fail(name, absl::StrCat("must be a number, and is ", KindOf(*value)));
  return std::nullopt;
}

std::optional<int64_t> Fields::Integer(const char* name, int64_t least, int64_t most) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  // 5.0 is what some clients make of 5. The bounds are compared as doubles first, so that the cast is in range.
  const bool whole = value->is_number_integer() ||
                     (value->is_number_float() && std::trunc(value->get<double>()) == value->get<double>());
  if (!whole) {
    Fail(name, absl::StrCat("must be a whole number, and is ", value->is_number() ? "a fraction" : KindOf(*value)));
    return std::nullopt;
  }
  const bool fits = value->is_number_unsigned() ? value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                    : value->is_number_float()  ? std::abs(value->get<double>()) < 9e18
                                                : true;
  const int64_t number = !fits                      ? 0
                         : value->is_number_float() ? static_cast<int64_t>(value->get<double>())
                                                    : value->get<int64_t>();
  if (fits && number >= least && number <= most) return number;
  Fail(name, fits ? absl::StrCat("is ", number, "; allowed are ", least, " to ", most)
                  : absl::StrCat("is out of range; allowed are ", least, " to ", most));
  return std::nullopt;
}

std::optional<bool> Fields::Boolean(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  Fail(name, absl::StrCat("must be true or false, and is ", KindOf(*value)));
  return std::nullopt;
}

std::optional<std::string> Fields::String(const char* name) {
  const json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  Fail(name, absl::StrCat("must be a string, and is ", KindOf(*value)));
  return std::nullopt;
}

std::string Fields::RequiredString(const char* name) {
  const auto value = String(name);
  if (!value.has_value()) {
    Fail(name, "is missing");
  } else if (value->empty()) {
    Fail(name, "is empty");
  }
  return value.value_or("");
}

std::vector<std::string> Fields::Strings(const char* name, size_t most) {
  const json* value = Find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> strings;
  if (!value->is_array()) {
    Fail(name, absl::StrCat("must be a string or an array of strings, and is ", KindOf(*value)));
  } else if (value->size() > most) {
    Fail(name, absl::StrCat("has ", value->size(), " strings; allowed are ", most));
  } else {
    for (const json& item : *value) {
      if (!item.is_string()) {
        Fail(name, absl::StrCat("must hold strings, and holds ", KindOf(item)));
        return {};
      }
      strings.push_back(item.get<std::string>());
    }
  }
  return strings;
}

const json* Fields::Object(const char* name) {
  const json* value = Find(name);
  if (value == nullptr || value->is_object()) return value;
  Fail(name, absl::StrCat("must be an object, and is ", KindOf(*value)));
  return nullptr;
}

std::string Fields::Written(const char* name) const {
  const auto written = text_.empty() ? std::nullopt : RawMember(text_, name);
  return written.has_value() ? std::string(*written) : Find(name)->dump();
}

}  // namespace tandem::gateway
