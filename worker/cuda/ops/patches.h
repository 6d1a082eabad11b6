// Cuts pictures into the patches that a product over patches takes, with the values that the model sees.
#ifndef TANDEM_WORKER_CUDA_OPS_PATCHES_H_
#define TANDEM_WORKER_CUDA_OPS_PATCHES_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

// Of a picture come 1 + (side / patch)^2 rows: one of zeros, where the class token is, and one for each patch, from
// left to right and from top to bottom. A patch's row has all its red values first, then green, then blue, as a
// convolution's weights have them.
struct PatchArgs {
  const uint8_t* pixels = nullptr;  // [images][side][side][3], any alignment
  int32_t images = 0;
  int32_t side = 0;
  int32_t patch = 0;               // side is a multiple
  const float* colours = nullptr;  // [3][256]: what a byte of red, green and blue stands for
  void* output = nullptr;          // [images][1 + patches][3 * patch * patch] of `type`
  model::DType type = model::DType::kFloat16;
};

// kBFloat16 and kFloat16; INVALID_ARGUMENT for another type.
absl::Status CutPatches(const PatchArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_PATCHES_H_
