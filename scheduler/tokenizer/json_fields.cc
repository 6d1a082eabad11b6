#include "scheduler/tokenizer/json_fields.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view what) {
  // The parser reports by exception; its message would quote the content.
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    const size_t at = std::min<size_t>(error.byte, text.size());
    return absl::InvalidArgumentError(absl::StrCat(what, " is no valid JSON: parsing stopped at byte ", at, " of ",
                                                   text.size(), at == text.size() ? " (the file ends too early)" : ""));
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is no valid JSON: a number is out of range"));
  }
}

JsonFields::JsonFields(const Json& value, std::string path) : value_(value), path_(std::move(path)) {
  if (!value_.is_object()) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat(path_.empty() ? "the file" : path_, " is ", value_.type_name(), ", it must be an object"));
  }
}

std::string JsonFields::Path(const char* name) const { return path_.empty() ? name : absl::StrCat(path_, ".", name); }

void JsonFields::Fail(const char* name, absl::string_view problem) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(Path(name), " ", problem));
}

const Json* JsonFields::Find(const char* name, bool required) {
  if (!status_.ok()) return nullptr;
  known_.emplace_back(name);
  const auto it = value_.find(name);
  if (it == value_.end() || it->is_null()) {
    if (required) Fail(name, "is missing");
    return nullptr;
  }
  return &*it;
}

std::string JsonFields::String(const char* name) {
  const Json* member = Find(name, true);
  if (member == nullptr) return {};
  if (!member->is_string()) Fail(name, absl::StrCat("is ", member->type_name(), ", it must be a string"));
  return member->is_string() ? member->get<std::string>() : std::string();
}

bool JsonFields::Bool(const char* name) {
  const Json* member = Find(name, true);
  if (member == nullptr) return false;
  if (!member->is_boolean()) Fail(name, absl::StrCat("is ", member->type_name(), ", it must be true or false"));
  return member->is_boolean() && member->get<bool>();
}

int64_t JsonFields::Int(const char* name) {
  const Json* member = Find(name, true);
  if (member == nullptr) return 0;
  // nlohmann keeps values above INT64_MAX as unsigned.
  if (!member->is_number_integer() || (member->is_number_unsigned() && member->get<uint64_t>() > INT64_MAX)) {
    Fail(name, absl::StrCat("is ", member->type_name(), ", it must be a whole number below 2^63"));
    return 0;
  }
  return member->get<int64_t>();
}

const Json* JsonFields::Array(const char* name) {
  const Json* member = Find(name, true);
  if (member == nullptr || member->is_array()) return member;
  Fail(name, absl::StrCat("is ", member->type_name(), ", it must be an array"));
  return nullptr;
}

const Json* JsonFields::Object(const char* name) {
  const Json* member = Find(name, true);
  if (member == nullptr || member->is_object()) return member;
  Fail(name, absl::StrCat("is ", member->type_name(), ", it must be an object"));
  return nullptr;
}

const Json* JsonFields::Any(const char* name) { return Find(name, true); }

std::string JsonFields::StringOr(const char* name, absl::string_view fallback) {
  return Find(name, false) == nullptr ? std::string(fallback) : String(name);
}

bool JsonFields::BoolOr(const char* name, bool fallback) {
  return Find(name, false) == nullptr ? fallback : Bool(name);
}

const Json* JsonFields::AnyOrNull(const char* name) { return Find(name, false); }

void JsonFields::Ignore(const char* name) { known_.emplace_back(name); }

absl::Status JsonFields::Finish() {
  if (!status_.ok()) return status_;
  for (const auto& [name, unused] : value_.items()) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_.empty() ? "the file" : path_, " has the unknown member ", QuotePiece(name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::tokenizer
