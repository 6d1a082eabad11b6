// One rank's weights of a decoder in device memory: matrices row by row in the model's half-width type, one row for
// each output, so that a product's inner dimension is contiguous; norms, biases and learned positions in float32.
//
// All of it is one allocation. The slices come from the same plan as the CPU's (worker/model/shard_plan.h) and are
// brought by weight_upload.h.
#ifndef TANDEM_WORKER_CUDA_DEVICE_WEIGHTS_H_
#define TANDEM_WORKER_CUDA_DEVICE_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/stream.h"
#include "worker/cuda/weight_upload.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker::cuda {

struct DeviceWeights {
  model::DType type = model::DType::kBFloat16;
  DeviceMatrix embedding;
  float* positions = nullptr;
  std::vector<DeviceLayer> layers;
  DeviceNorm final_norm;
  DeviceMatrix output;  // the embedding itself where the two are tied
  DeviceMemory memory;  // holds all of it
};

// Bytes that the weights of `plan` take; its parts need not be there, only their sizes.
int64_t DeviceWeightBytes(const ShardPlan& plan, model::DType type);

// Takes the memory and says what is where. The contents are whatever was there before.
absl::StatusOr<DeviceWeights> AllocateWeights(const ShardPlan& plan, model::DType type);

// The same, filled from the plan's files, which may be closed afterwards. `type` is kBFloat16 or kFloat16; a value that
// kFloat16 can not hold is refused by the number of such values. OK means that everything has arrived. `wait_limit`
// bounds each copy, and `health` ends one (stream.h).
absl::StatusOr<DeviceWeights> UploadWeights(const ShardPlan& plan, model::DType type, cudaStream_t stream,
                                            std::chrono::nanoseconds wait_limit,
                                            absl::FunctionRef<absl::Status()> health);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DEVICE_WEIGHTS_H_
