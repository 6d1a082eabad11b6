// Rewrites text before it is cut: Unicode normal forms, lower case, replacements, BERT's own mixture.
//
// A chain of steps in the order of the file. Immutable after Parse(); any thread may use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_NORMALIZER_H_
#define TANDEM_SCHEDULER_TOKENIZER_NORMALIZER_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/charsmap.h"
#include "scheduler/tokenizer/json_fields.h"
#include "scheduler/tokenizer/pattern.h"
#include "scheduler/tokenizer/unicode.h"

namespace tandem::tokenizer {

class Normalizer {
 public:
  Normalizer() = default;  // changes nothing

  // `value`: the "normalizer" of a tokenizer.json. Refuses by name what it does not know.
  static absl::StatusOr<Normalizer> Parse(const Json& value);

  bool empty() const { return steps_.empty(); }

  // REQUIRES: valid UTF-8.
  absl::StatusOr<std::string> Apply(absl::string_view utf8) const;

 private:
  struct Form {
    NormalForm form;
  };
  struct Lower {};
  struct Unaccent {};
  struct Prepend {
    std::string text;
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Strip {
    bool left;
    bool right;
  };
  struct Bert {
    bool clean;    // control characters vanish, white space of every kind is a space
    bool chinese;  // a space on either side of a Chinese character
    bool strip_accents;
    bool lowercase;
  };
  using Step = std::variant<Form, Lower, Unaccent, Prepend, Replace, Strip, Bert, Charsmap>;

  absl::Status Add(const Json& value, const std::string& path, int depth);
  static absl::Status Run(const Step& step, std::string* text);

  std::vector<Step> steps_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_NORMALIZER_H_
