// What a step may hold, for every executor. Every rank sees the same step, so every rank refuses it before the first
// collective.
#ifndef TANDEM_WORKER_EXEC_CHECK_STEP_H_
#define TANDEM_WORKER_EXEC_CHECK_STEP_H_

#include <cstdint>

#include "absl/status/status.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

struct StepBounds {
  int32_t max_batch_tokens = 0;
  int32_t max_sequences = 0;
  int32_t max_positions = 0;
  int32_t vocab_size = 0;
  int32_t num_blocks = 0;
};

// INVALID_ARGUMENT names the sequence, the number and its limit.
absl::Status CheckStep(const StepInput& step, const StepBounds& bounds);

// The same of an encoder, whose texts and pictures come whole.
struct TextBounds {
  int32_t max_batch_tokens = 0;
  int32_t max_texts = 0;  // and pictures
  int32_t longest = 0;    // tokens of one text
  int32_t vocab_size = 0;
  int32_t image_tokens = 0;  // of a picture; 0: the model reads none
  int64_t image_bytes = 0;
};
absl::Status CheckTexts(const StepInput& step, const TextBounds& bounds);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CHECK_STEP_H_
