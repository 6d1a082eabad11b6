#include "worker/cuda/text_batch.h"

#include <algorithm>

namespace tandem::worker::cuda {

TextArrays TakeTextArrays(const TextLimits& limits, MemoryCursor* cursor) {
  TextArrays arrays;
  arrays.tokens = cursor->Take<int32_t>(limits.tokens);
  arrays.positions = cursor->Take<int32_t>(limits.tokens);
  arrays.segments = cursor->Take<int32_t>(limits.segments ? limits.tokens : 0);
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

void AppendText(absl::Span<const TokenId> tokens, int32_t first_position, const TextLimits& limits,
                const TextArrays& arrays, TextShape* shape) {
  const int32_t count = static_cast<int32_t>(tokens.size());
  const int64_t first = shape->tokens;
  for (int32_t i = 0; i < count; ++i) {
    arrays.tokens[first + i] = tokens[static_cast<size_t>(i)];
    arrays.positions[first + i] = first_position + i;
    arrays.slots[first + i] = shape->blocks * kBlockTokens + i;  // A text's blocks are neighbours.
  }
  int32_t* const table = arrays.tables + int64_t{shape->texts} * limits.table_stride();
  for (int32_t i = 0; i * kBlockTokens < count; ++i) table[i] = shape->blocks++;
  arrays.start[shape->texts] = 0;
  arrays.token_begin[shape->texts] = static_cast<int32_t>(first);
  shape->tokens += count;
  shape->longest = std::max(shape->longest, count);
  arrays.token_begin[++shape->texts] = static_cast<int32_t>(shape->tokens);
}

TextShape FillTexts(const StepInput& step, const model::EncoderConfig& config, const TextLimits& limits,
                    const TextArrays& arrays) {
  TextShape shape;
  for (const SequenceInput& text : step.sequences) {
    const bool two = config.types > 1 && text.second_text_at > 0;
    for (size_t i = 0; i < text.tokens.size(); ++i) {
      arrays.segments[static_cast<size_t>(shape.tokens) + i] =
          two && static_cast<int64_t>(i) >= text.second_text_at ? 1 : 0;
    }
    AppendText(text.tokens, config.first_position, limits, arrays, &shape);
  }
  return shape;
}

}  // namespace tandem::worker::cuda
