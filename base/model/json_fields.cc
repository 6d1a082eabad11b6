#include "base/model/json_fields.h"

#include <sys/stat.h>

#include <cmath>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"

namespace tandem::model {

using nlohmann::json;

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t limit) {
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0) return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  if (!S_ISREG(facts.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  if (facts.st_size > limit) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", facts.st_size, " bytes, at most ", limit, " are read"));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<size_t>(facts.st_size), '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size()))) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  return text;
}

absl::StatusOr<json> ParseJsonObject(absl::string_view text, absl::string_view where) {
  constexpr size_t kMaxDepth = 32;
  std::vector<std::set<std::string>> keys_by_depth;
  std::string repeated;
  bool too_deep = false;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    const size_t level = static_cast<size_t>(depth);
    if (level > kMaxDepth) {
      too_deep = true;
      return false;  // Drops the value, so that nothing deep is ever built.
    }
    if (event == json::parse_event_t::object_start) {
      keys_by_depth.resize(level + 1);
      keys_by_depth.emplace_back();
    } else if (event == json::parse_event_t::key && level < keys_by_depth.size()) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!keys_by_depth[level].insert(key).second && repeated.empty()) repeated = key;
    }
    return true;
  };
  const json parsed = json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (too_deep) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": JSON nested deeper than ", kMaxDepth, " levels"));
  }
  if (parsed.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(where, ": not valid JSON"));
  if (!parsed.is_object()) return absl::InvalidArgumentError(absl::StrCat(where, ": expected a JSON object"));
  if (!repeated.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": the key \"", repeated.substr(0, 120), "\" stands twice"));
  }
  return parsed;
}

const json* JsonFields::Find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool JsonFields::Has(const char* key) const { return Find(key) != nullptr; }

void JsonFields::Refuse(absl::string_view message) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(where_, ": ", message));
}

void JsonFields::WrongValue(const char* key, const json& value, absl::string_view expected) {
  std::string shown = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (shown.size() > 60) shown = absl::StrCat(shown.substr(0, 60), "..");
  Refuse(absl::StrCat(key, " is ", shown, ", expected ", expected));
}

int64_t JsonFields::Int(const char* key, int64_t lowest, int64_t highest) {
  if (!Has(key)) {
    Refuse(absl::StrCat(key, " is missing"));
    return lowest;
  }
  return IntOr(key, lowest, highest, lowest);
}

int64_t JsonFields::IntOr(const char* key, int64_t lowest, int64_t highest, int64_t fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  // An unsigned value above the signed range would wrap in get<int64_t>.
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits || value->get<int64_t>() < lowest || value->get<int64_t>() > highest) {
    WrongValue(key, *value, absl::StrCat("a whole number from ", lowest, " to ", highest));
    return fallback;
  }
  return value->get<int64_t>();
}

double JsonFields::Number(const char* key, double lowest, double highest) {
  if (!Has(key)) {
    Refuse(absl::StrCat(key, " is missing"));
    return lowest;
  }
  return NumberOr(key, lowest, highest, lowest);
}

double JsonFields::NumberOr(const char* key, double lowest, double highest, double fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !(value->get<double>() >= lowest && value->get<double>() <= highest)) {
    WrongValue(key, *value, absl::StrCat("a number from ", lowest, " to ", highest));
    return fallback;
  }
  return value->get<double>();
}

bool JsonFields::BoolOr(const char* key, bool fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    WrongValue(key, *value, "true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string JsonFields::StringOr(const char* key, absl::string_view fallback) {
  const json* value = Find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string() || value->get_ref<const std::string&>().size() > 256) {
    WrongValue(key, *value, "a string");
    return std::string(fallback);
  }
  return value->get<std::string>();
}

std::vector<std::string> JsonFields::Strings(const char* key, size_t max_count) {
  std::vector<std::string> strings;
  const json* value = Find(key);
  if (value == nullptr) return strings;
  bool good = value->is_array() && value->size() <= max_count;
  if (good) {
    for (const json& item : *value) good = good && item.is_string();
  }
  if (!good) {
    WrongValue(key, *value, absl::StrCat("a list of at most ", max_count, " strings"));
    return strings;
  }
  for (const json& item : *value) strings.push_back(item.get<std::string>());
  return strings;
}

std::vector<int32_t> JsonFields::IntOrList(const char* key, int64_t lowest, int64_t highest, size_t max_count) {
  std::vector<int32_t> numbers;
  const json* value = Find(key);
  if (value == nullptr) return numbers;
  const auto fits = [&](const json& item) {
    return item.is_number_integer() &&
           (!item.is_number_unsigned() || item.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)) &&
           item.get<int64_t>() >= lowest && item.get<int64_t>() <= highest;
  };
  bool good = fits(*value);
  if (value->is_array() && value->size() <= max_count) {
    good = true;
    for (const json& item : *value) good = good && fits(item);
  }
  if (!good) {
    WrongValue(key, *value,
               absl::StrCat("a whole number from ", lowest, " to ", highest, " or a list of at most ", max_count));
    return numbers;
  }
  if (value->is_array()) {
    for (const json& item : *value) numbers.push_back(item.get<int32_t>());
  } else {
    numbers.push_back(value->get<int32_t>());
  }
  return numbers;
}

const json* JsonFields::Object(const char* key) {
  const json* value = Find(key);
  if (value != nullptr && !value->is_object()) {
    WrongValue(key, *value, "an object");
    return nullptr;
  }
  return value;
}

}  // namespace tandem::model
