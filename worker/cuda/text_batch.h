// A step of an encoder as the flat arrays that kernels read: texts one after the other, without padding.
//
// Attention reads keys and values from blocks, as a decoder's does; here they are the step's own, handed out text by
// text and forgotten with it.
#ifndef TANDEM_WORKER_CUDA_TEXT_BATCH_H_
#define TANDEM_WORKER_CUDA_TEXT_BATCH_H_

#include <cstdint>

#include "absl/types/span.h"
#include "base/model/encoder_config.h"
#include "worker/cuda/device_memory.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

struct TextLimits {
  int32_t tokens = 0;   // of one step
  int32_t texts = 0;    // of one step
  int32_t longest = 0;  // tokens of one text
  bool segments = true;

  int32_t table_stride() const { return (longest + kBlockTokens - 1) / kBlockTokens; }
  // A text's last block may hold one token.
  int32_t blocks() const { return tokens / kBlockTokens + texts; }
};

// In page-locked memory or in that of the device: laid out alike, so that one copy moves all of them.
struct TextArrays {
  int32_t* tokens = nullptr;       // [tokens]
  int32_t* positions = nullptr;    // [tokens]: rows of the table of positions
  int32_t* segments = nullptr;     // [tokens]: rows of the table of segments, where the limits have them
  int32_t* slots = nullptr;        // [tokens]: block * 16 + place in the block
  int32_t* token_begin = nullptr;  // [texts + 1]
  int32_t* start = nullptr;        // [texts]: 0, the position of a text's first token in its blocks
  int32_t* tables = nullptr;       // [texts][table_stride]
};

TextArrays TakeTextArrays(const TextLimits& limits, MemoryCursor* cursor);
int64_t TextArrayBytes(const TextLimits& limits);

struct TextShape {
  int64_t tokens = 0;
  int32_t texts = 0;
  int32_t longest = 0;
  int32_t blocks = 0;
};

// Puts one more text behind those of `shape`. All is filled but its segments.
void AppendText(absl::Span<const TokenId> tokens, int32_t first_position, const TextLimits& limits,
                const TextArrays& arrays, TextShape* shape);

// REQUIRES: the step is within the limits, its texts have tokens, and their ids and second texts are in range.
TextShape FillTexts(const StepInput& step, const model::EncoderConfig& config, const TextLimits& limits,
                    const TextArrays& arrays);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_TEXT_BATCH_H_
