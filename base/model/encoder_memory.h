// How many bytes an encoder needs, from its config alone: what placement plans with. The formula counts what the CPU
// executor takes, buffer by buffer.
//
// An encoder keeps no keys and values. So that the scheduler books and limits its requests as those of a decoder, the
// engine's queue takes the place of the KV pool: what a token holds there from its assignment to its answer.
#ifndef TANDEM_BASE_MODEL_ENCODER_MEMORY_H_
#define TANDEM_BASE_MODEL_ENCODER_MEMORY_H_

#include <cstdint>

#include "base/model/dtype.h"
#include "base/model/encoder_config.h"

namespace tandem::model {

// Floats of each buffer of the arena, shared with the executor that allocates them.
struct EncoderArena {
  int64_t hidden = 0;   // the residual stream
  int64_t normed = 0;   // what a block gives, or the input of a product that rounds it
  int64_t scratch = 0;  // attention: queries, keys, values, and its output; then the MLP
  int64_t tiles = 0;    // keys and values of one sequence, as the attention kernel reads them
  int64_t output = 0;   // vectors
  int64_t total_bytes = 0;
};
EncoderArena SizeEncoderArena(const EncoderConfig& config, int32_t max_batch_tokens, int32_t max_sequences);

// Matrices packed as `stored`; tables, norms and biases in float32.
int64_t EncoderWeightBytes(const EncoderConfig& config, DType stored);

// A step takes at least the longest input.
int32_t EncoderBatchTokens(const EncoderConfig& config, int32_t wanted);

// Of the engine's queue: the id, its share of an image and of an answer, and the bookkeeping.
inline constexpr int64_t kQueuedTokenBytes = 64;

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_ENCODER_MEMORY_H_
