#include "worker/cuda/clip_batch.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace tandem::worker::cuda {
namespace {

// Which row of the tower stands for the item that is appended next, and where its vector goes.
void Note(const ClipArrays& arrays, const TextShape& shape, int64_t pooled, size_t place) {
  arrays.pooled[shape.texts] = static_cast<int32_t>(shape.tokens + pooled);
  arrays.places[shape.texts] = static_cast<int32_t>(place);
}

}  // namespace

TextLimits ClipTextLimits(const model::ClipConfig& config, int32_t tokens, int32_t sequences) {
  return {.tokens = tokens, .texts = sequences, .longest = config.text.positions, .segments = false};
}

TextLimits ClipImageLimits(const model::ClipConfig& config, int32_t tokens, int32_t sequences) {
  const int32_t images = std::min(sequences, tokens / config.image_tokens());
  return {
      .tokens = images * config.image_tokens(), .texts = images, .longest = config.image_tokens(), .segments = false};
}

ClipArrays TakeClipArrays(const TextLimits& limits, int64_t image_bytes, MemoryCursor* cursor) {
  ClipArrays arrays;
  arrays.rows = TakeTextArrays(limits, cursor);
  arrays.pooled = cursor->Take<int32_t>(limits.texts);
  arrays.places = cursor->Take<int32_t>(limits.texts);
  arrays.pixels = cursor->TakeBytes(limits.texts * image_bytes);
  return arrays;
}

int64_t ClipArrayBytes(const TextLimits& limits) {
  MemoryCursor counting = MemoryCursor::Counting();
  TakeClipArrays(limits, /*image_bytes=*/0, &counting);
  return counting.taken();
}

TextShape FillClipTexts(const StepInput& step, const model::ClipConfig& config, const TextLimits& limits,
                        const ClipArrays& arrays) {
  TextShape shape;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const SequenceInput& text = step.sequences[i];
    if (!text.image.empty()) continue;
    Note(arrays, shape, config.EndOf(text.tokens), i);
    AppendText(text.tokens, /*first_position=*/0, limits, arrays.rows, &shape);
  }
  return shape;
}

TextShape FillClipImages(const StepInput& step, const model::ClipConfig& config, const TextLimits& limits,
                         const ClipArrays& arrays) {
  std::vector<TokenId> tokens(static_cast<size_t>(config.image_tokens()), 1);
  tokens[0] = 0;
  TextShape shape;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const SequenceInput& image = step.sequences[i];
    if (image.image.empty()) continue;
    Note(arrays, shape, /*pooled=*/0, i);
    std::memcpy(arrays.pixels + shape.texts * config.image_bytes(), image.image.data(), image.image.size());
    AppendText(tokens, /*first_position=*/0, limits, arrays.rows, &shape);
  }
  return shape;
}

}  // namespace tandem::worker::cuda
