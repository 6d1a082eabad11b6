#include "scheduler/tokenizer/pattern.h"

#include "absl/strings/str_cat.h"

namespace tandem::tokenizer {

absl::StatusOr<Pattern> Pattern::Parse(JsonFields* fields, const char* name) {
  const std::string path = fields->Path(name);
  const Json* value = fields->Object(name);
  if (value == nullptr) return fields->Finish();
  JsonFields pattern(*value, path);
  if (pattern.AnyOrNull("Regex") != nullptr) {
    const std::string text = pattern.String("Regex");
    if (absl::Status status = pattern.Finish(); !status.ok()) return status;
    absl::StatusOr<Regex> regex = Regex::Compile(text);
    if (!regex.ok()) return absl::Status(regex.status().code(), absl::StrCat(path, ": ", regex.status().message()));
    return Pattern("", *std::move(regex));
  }
  std::string text = pattern.String("String");
  if (pattern.ok() && text.empty()) pattern.Fail("String", "is empty");
  if (absl::Status status = pattern.Finish(); !status.ok()) return status;
  return Literal(std::move(text));
}

absl::StatusOr<std::vector<Range>> Pattern::FindAll(absl::string_view utf8) const {
  if (regex_) return regex_->FindAll(utf8);
  std::vector<Range> matches;
  for (size_t at = utf8.find(literal_); at != absl::string_view::npos; at = utf8.find(literal_, at + literal_.size())) {
    matches.push_back({at, at + literal_.size()});
  }
  return matches;
}

}  // namespace tandem::tokenizer
