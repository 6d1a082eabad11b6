// An encoder on a device, as its executor (encoder_executor.h) sees it: what a step is given, how much memory it takes,
// and how a step is enqueued. The encoder of texts (cuda_encoder.h) and CLIP (cuda_clip.h) are the two there are.
//
// In the order of calls: planned by the function that makes it, which reads the files and takes nothing; laid out,
// first with cursors that count and then over memory; loaded; then steps. Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_DEVICE_ENCODER_H_
#define TANDEM_WORKER_CUDA_DEVICE_ENCODER_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/model/dtype.h"
#include "base/model/safetensors.h"
#include "worker/cuda/cuda_executor.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/weight_layout.h"
#include "worker/exec/check_step.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

class DeviceEncoder {
 public:
  virtual ~DeviceEncoder() = default;

  virtual absl::string_view kind() const = 0;  // in the numerics_id: "encoder", "clip"
  virtual model::DType type() const = 0;
  virtual const ModelFacts& facts() const = 0;
  virtual const TextBounds& bounds() const = 0;
  virtual int32_t layers() const = 0;  // of a step, at most

  virtual int64_t WeightBytes() const = 0;
  // The working memory of a step of the largest size, on the device; and a step's arrays in page-locked memory.
  virtual void TakeOnDevice(MemoryCursor* cursor) = 0;
  virtual void TakeOnHost(MemoryCursor* cursor) = 0;
  // Takes the weights to the device, and lets go of the files. REQUIRES: it is laid out over memory that is clean.
  virtual absl::Status Load(const UploadRoad& road) = 0;

  // Fills the page-locked arrays and enqueues a step, from their copy to the device to vectors(). Whatever was enqueued
  // before is done. `after_layer` is called when a layer is enqueued. REQUIRES: the step is within bounds().
  virtual absl::Status Enqueue(const StepInput& step, cudaStream_t stream,
                               absl::FunctionRef<absl::Status()> after_layer) = 0;
  // On the device: one for each sequence, in the step's order.
  virtual const float* vectors() const = 0;

  // What is left to do on the host with the vectors of a step.
  virtual void Finish(absl::Span<float>) const {}
  // As Executor::ReadImage.
  virtual absl::StatusOr<std::vector<uint8_t>> ReadImage(absl::string_view) const {
    return absl::InvalidArgumentError("the model reads no pictures");
  }
};

// What both kinds are planned from.
struct EncoderFiles {
  model::WeightFiles files;
  std::string revision;
  model::DType type = model::DType::kFloat16;  // of weights and activations

  // `of_files`: the type that config.json names.
  static absl::StatusOr<EncoderFiles> Open(const CudaExecutorOptions& options, std::optional<model::DType> of_files);
};

// From pinned to device memory, without waiting.
absl::Status CopyToDevice(void* to, const void* from, int64_t bytes, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DEVICE_ENCODER_H_
