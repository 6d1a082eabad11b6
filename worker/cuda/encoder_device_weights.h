// The weights of an encoder in device memory: matrices and the table of words in the model's half-width type, the small
// tables, norms and biases in float32. All of it is one allocation.
#ifndef TANDEM_WORKER_CUDA_ENCODER_DEVICE_WEIGHTS_H_
#define TANDEM_WORKER_CUDA_ENCODER_DEVICE_WEIGHTS_H_

#include <chrono>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/weight_upload.h"
#include "worker/model/encoder_plan.h"

namespace tandem::worker::cuda {

struct DeviceEncoderWeights {
  DeviceMatrix words;          // [vocab][hidden]
  float* positions = nullptr;  // [positions][hidden]
  float* types = nullptr;      // [types][hidden]
  DeviceNorm embedding_norm;
  std::vector<DeviceLayer> layers;  // the norms stand behind their blocks
  DeviceLinear head_dense;          // of a classifier, as is
  DeviceLinear head_out;
  DeviceMemory memory;  // holds all of it
};

int64_t DeviceEncoderWeightBytes(const EncoderPlan& plan, model::DType type);

// Copies the plan's tensors to the device. As UploadWeights of device_weights.h.
absl::StatusOr<DeviceEncoderWeights> UploadEncoderWeights(const EncoderPlan& plan, model::DType type,
                                                          cudaStream_t stream, std::chrono::nanoseconds wait_limit,
                                                          absl::FunctionRef<absl::Status()> health);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_ENCODER_DEVICE_WEIGHTS_H_
