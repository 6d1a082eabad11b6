// What a Split or a Replace looks for: a plain string or a regular expression. Immutable; any thread may use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_PATTERN_H_
#define TANDEM_SCHEDULER_TOKENIZER_PATTERN_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/json_fields.h"
#include "scheduler/tokenizer/regex.h"

namespace tandem::tokenizer {

class Pattern {
 public:
  // Member `name` of `fields`: {"String": ...} or {"Regex": ...}.
  static absl::StatusOr<Pattern> Parse(JsonFields* fields, const char* name);

  static Pattern Regular(Regex regex) { return Pattern("", std::move(regex)); }

  // REQUIRES: `text` is not empty.
  static Pattern Literal(std::string text) { return Pattern(std::move(text), std::nullopt); }

  // Matches from left to right, apart, never empty.
  absl::StatusOr<std::vector<Range>> FindAll(absl::string_view utf8) const;

  // The string to look for; null for a regular expression.
  const std::string* literal() const { return regex_ ? nullptr : &literal_; }

 private:
  Pattern(std::string literal, std::optional<Regex> regex) : literal_(std::move(literal)), regex_(std::move(regex)) {}

  std::string literal_;  // counts where there is no regex_
  std::optional<Regex> regex_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_PATTERN_H_
