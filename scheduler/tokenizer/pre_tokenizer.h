// Cuts normalized text into the words that BPE works on, and spells them as the vocabulary does.
//
// A chain of steps in the order of the file. A word runs through the whole chain before the next one is cut, so that a
// long prompt needs no memory for its pieces, and a caller who has enough can stop. Immutable after Parse(); any thread
// may use it.
#ifndef TANDEM_SCHEDULER_TOKENIZER_PRE_TOKENIZER_H_
#define TANDEM_SCHEDULER_TOKENIZER_PRE_TOKENIZER_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/json_fields.h"
#include "scheduler/tokenizer/pattern.h"

namespace tandem::tokenizer {

// What becomes of a match when a text is split at it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// The parts of a text of `size` bytes in which `matches` were found. With `invert` everything else is the match.
std::vector<Range> SplitAt(size_t size, const std::vector<Range>& matches, SplitBehavior behavior, bool invert);

class PreTokenizer {
 public:
  using Sink = absl::FunctionRef<absl::Status(absl::string_view word)>;

  PreTokenizer() = default;  // the whole text is one word

  // `value`: the "pre_tokenizer" of a tokenizer.json. Refuses by name what it does not know.
  static absl::StatusOr<PreTokenizer> Parse(const Json& value);

  // The byte-level form of GPT-2.
  static PreTokenizer Gpt2(bool add_prefix_space);

  // Hands the words to `sink`, in order; the first error of `sink` ends it. `starts_prompt`: `text` is the beginning of
  // the prompt, not what follows an added token.
  // REQUIRES: valid UTF-8, not empty.
  absl::Status Run(absl::string_view text, bool starts_prompt, Sink sink) const;

 private:
  enum class CharClass { kNumeric, kPunctuation, kWhitespace };
  struct Split {
    Pattern pattern;
    SplitBehavior behavior;
    bool invert;
  };
  struct ClassSplit {
    CharClass char_class;
    SplitBehavior behavior;
  };
  struct WordSplit {};  // runs of \w, and runs of what is neither \w nor space
  struct PrefixSpace {};
  struct SpellBytes {};
  struct Metaspace {
    enum class Prepend { kAlways, kFirst, kNever };
    std::string replacement;
    Prepend prepend;
    bool split;
  };
  using Step = std::variant<Split, ClassSplit, WordSplit, PrefixSpace, SpellBytes, Metaspace>;

  absl::Status Add(const Json& value, const std::string& path, int depth);
  void AddByteLevel(bool add_prefix_space, bool use_regex);
  static absl::StatusOr<Metaspace> ParseMetaspace(JsonFields* fields);
  absl::Status RunFrom(size_t step, absl::string_view text, bool starts_prompt, Sink sink) const;
  absl::Status RunParts(size_t step, absl::string_view text, bool starts_prompt, const std::vector<Range>& parts,
                        Sink sink) const;

  std::vector<Step> steps_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_PRE_TOKENIZER_H_
