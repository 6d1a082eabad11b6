// CLIP on a device: texts and pictures of a step, each to one vector. What worker/exec/clip_encoder.h computes on the
// CPU is the reference.
//
// The two kinds go through their own towers, one after the other; a step of one kind pays for one. Pictures come to the
// device as bytes; there they are cut into patches and get the values that the model sees. Patches and class token of a
// picture are rows side by side: the product over patches runs over all rows, with zeros for the class token.
#ifndef TANDEM_WORKER_CUDA_CUDA_CLIP_H_
#define TANDEM_WORKER_CUDA_CUDA_CLIP_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/cuda/cuda_executor.h"
#include "worker/cuda/device_encoder.h"

namespace tandem::worker::cuda {

// `task`: embed.
absl::StatusOr<std::unique_ptr<DeviceEncoder>> PlanCudaClip(const CudaExecutorOptions& options, absl::string_view task);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_CUDA_CLIP_H_
