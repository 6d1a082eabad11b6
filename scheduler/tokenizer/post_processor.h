// What is put around a prompt's ids: <s> in front, sometimes an end token behind; and how two texts stand together.
#ifndef TANDEM_SCHEDULER_TOKENIZER_POST_PROCESSOR_H_
#define TANDEM_SCHEDULER_TOKENIZER_POST_PROCESSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/tokenizer/json_fields.h"

namespace tandem::tokenizer {

// One stretch of a pair of texts: a text, or the ids between, before and behind them.
struct PairItem {
  enum class What { kFirstText, kSecondText, kIds };
  What what = What::kIds;
  std::vector<int32_t> ids;
  int32_t type = 0;  // 0 or 1, never falling: what BERT calls a segment
};

struct Surround {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  std::vector<PairItem> pair;  // empty: the file does not say
};

// `value`: the "post_processor" of a tokenizer.json. Refuses by name what it does not know.
absl::StatusOr<Surround> ParsePostProcessor(const Json& value);

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_POST_PROCESSOR_H_
