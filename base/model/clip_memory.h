// How many bytes a CLIP model needs, from its config alone: what placement plans with. As encoder_memory.h.
#ifndef TANDEM_BASE_MODEL_CLIP_MEMORY_H_
#define TANDEM_BASE_MODEL_CLIP_MEMORY_H_

#include <cstdint>

#include "base/model/clip_config.h"
#include "base/model/dtype.h"

namespace tandem::model {

// Floats of each buffer, shared with the executor that allocates them. Each is as large as the larger tower needs it.
struct ClipArena {
  int64_t hidden = 0;   // the residual stream
  int64_t normed = 0;   // the input of a block, then what it gives
  int64_t scratch = 0;  // patches; queries, keys, values and attention's output; the MLP
  int64_t tiles = 0;    // keys and values of one sequence, as the attention kernel reads them
  int64_t output = 0;   // vectors
  int64_t total_bytes = 0;
};
ClipArena SizeClipArena(const ClipConfig& config, int32_t max_batch_tokens, int32_t max_sequences);

// Matrices packed as `stored`; tables, norms and biases in float32.
int64_t ClipWeightBytes(const ClipConfig& config, DType stored);

// A step takes at least the longest input.
int32_t ClipBatchTokens(const ClipConfig& config, int32_t wanted);

// Of the engine's queue: as kQueuedTokenBytes, and a token's share of a picture that waits in the model's size.
int64_t ClipQueuedTokenBytes(const ClipConfig& config);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_CLIP_MEMORY_H_
