// What is put around a prompt's ids: <s> in front, sometimes an end token behind.
#ifndef TANDEM_SCHEDULER_TOKENIZER_POST_PROCESSOR_H_
#define TANDEM_SCHEDULER_TOKENIZER_POST_PROCESSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/tokenizer/json_fields.h"

namespace tandem::tokenizer {

struct Surround {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

// `value`: the "post_processor" of a tokenizer.json. Refuses by name what it does not know.
absl::StatusOr<Surround> ParsePostProcessor(const Json& value);

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_POST_PROCESSOR_H_
