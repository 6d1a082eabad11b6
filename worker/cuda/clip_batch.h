// One tower's part of a step of CLIP as the flat arrays that kernels read: its texts, or its pictures with a class
// token in front of each one's patches.
#ifndef TANDEM_WORKER_CUDA_CLIP_BATCH_H_
#define TANDEM_WORKER_CUDA_CLIP_BATCH_H_

#include <cstdint>

#include "base/model/clip_config.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/text_batch.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

// In page-locked memory or in that of the device: laid out alike, so that one copy moves all but the pixels.
struct ClipArrays {
  TextArrays rows;
  int32_t* pooled = nullptr;  // [texts]: the row whose state stands for the text or picture
  int32_t* places = nullptr;  // [texts]: its place in the step, and that of its vector
  uint8_t* pixels = nullptr;  // [texts][side][side][3]; pictures only
};

// Of the tower of texts, and of that of pictures. `tokens` and `sequences` are of a whole step.
TextLimits ClipTextLimits(const model::ClipConfig& config, int32_t tokens, int32_t sequences);
TextLimits ClipImageLimits(const model::ClipConfig& config, int32_t tokens, int32_t sequences);

// `image_bytes`: of one picture; 0: for texts.
ClipArrays TakeClipArrays(const TextLimits& limits, int64_t image_bytes, MemoryCursor* cursor);
// All but the pixels.
int64_t ClipArrayBytes(const TextLimits& limits);

// A picture's tokens are 0, the class token, and 1 for each patch.
// REQUIRES: the step has passed CheckTexts with the same limits.
TextShape FillClipTexts(const StepInput& step, const model::ClipConfig& config, const TextLimits& limits,
                        const ClipArrays& arrays);
TextShape FillClipImages(const StepInput& step, const model::ClipConfig& config, const TextLimits& limits,
                         const ClipArrays& arrays);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_CLIP_BATCH_H_
