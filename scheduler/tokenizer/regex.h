// A regular expression of a tokenizer.json, in the meaning that Oniguruma gives it, run by PCRE2 with JIT.
//
// The two engines read the same pattern differently in places: what \w and \s contain, what "&&" or "[" mean inside a
// class, whether "{1,3}+" is possessive, what ^ and $ anchor to. Compile() rewrites the first kind and refuses the
// rest by name, so that a pattern that compiles means here what it meant in training.
//
// Immutable after Compile(); any thread may use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_REGEX_H_
#define TANDEM_SCHEDULER_TOKENIZER_REGEX_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {

// `pattern` rewritten for PCRE2 in UCP mode. InvalidArgument names the construct that has no equal there.
absl::StatusOr<std::string> TranslateOnigPattern(absl::string_view pattern);

class Regex {
 public:
  static absl::StatusOr<Regex> Compile(absl::string_view pattern);

  // All matches from left to right that do not overlap; empty ones are left out. ResourceExhausted where the pattern
  // needs more steps for this text than the engine allows.
  // REQUIRES: valid UTF-8.
  absl::StatusOr<std::vector<Range>> FindAll(absl::string_view utf8) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_REGEX_H_
