// Encoders of texts on a device: whole texts side by side, without padding, each to one vector. What
// worker/exec/encoder.h computes on the CPU is the reference.
#ifndef TANDEM_WORKER_CUDA_CUDA_ENCODER_H_
#define TANDEM_WORKER_CUDA_CUDA_ENCODER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/cuda/cuda_executor.h"
#include "worker/cuda/device_encoder.h"

namespace tandem::worker::cuda {

// `task`: embed or rerank.
absl::StatusOr<std::unique_ptr<DeviceEncoder>> PlanCudaEncoder(const CudaExecutorOptions& options,
                                                               absl::string_view task);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_CUDA_ENCODER_H_
