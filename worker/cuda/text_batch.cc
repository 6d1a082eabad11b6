#include "worker/cuda/text_batch.h"

#include <algorithm>

namespace tandem::worker::cuda {

TextArrays TakeTextArrays(const TextLimits& limits, MemoryCursor* cursor) {
  TextArrays arrays;
  arrays.tokens = cursor->Take<int32_t>(limits.tokens);
  arrays.positions = cursor->Take<int32_t>(limits.tokens);
  arrays.segments = cursor->Take<int32_t>(limits.tokens);
  arrays.slots = cursor->Take<int32_t>(limits.tokens);
  arrays.token_begin = cursor->Take<int32_t>(limits.texts + 1);
  arrays.start = cursor->Take<int32_t>(limits.texts);
  arrays.tables = cursor->Take<int32_t>(int64_t{limits.texts} * limits.table_stride());
  return arrays;
}

int64_t TextArrayBytes(const TextLimits& limits) {
  MemoryCursor counting = MemoryCursor::Counting();
  TakeTextArrays(limits, &counting);
  return counting.taken();
}

TextShape FillTexts(const StepInput& step, const model::EncoderConfig& config, const TextLimits& limits,
                    const TextArrays& arrays) {
  TextShape shape;
  int32_t block = 0;
  arrays.token_begin[0] = 0;
  for (const SequenceInput& text : step.sequences) {
    const int32_t count = static_cast<int32_t>(text.tokens.size());
    const int32_t first = static_cast<int32_t>(shape.tokens);
    const bool two = config.types > 1 && text.second_text_at > 0;
    for (int32_t i = 0; i < count; ++i) {
      arrays.tokens[first + i] = text.tokens[static_cast<size_t>(i)];
      arrays.positions[first + i] = config.first_position + i;
      arrays.segments[first + i] = two && i >= text.second_text_at ? 1 : 0;
      arrays.slots[first + i] = block * kBlockTokens + i;  // A text's blocks are neighbours.
    }
    int32_t* const table = arrays.tables + int64_t{shape.texts} * limits.table_stride();
    for (int32_t i = 0; i * kBlockTokens < count; ++i) table[i] = block++;
    arrays.start[shape.texts] = 0;
    shape.tokens += count;
    shape.longest = std::max(shape.longest, count);
    arrays.token_begin[++shape.texts] = static_cast<int32_t>(shape.tokens);
  }
  return shape;
}

}  // namespace tandem::worker::cuda
