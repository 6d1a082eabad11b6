// Enqueues steps of an encoder on a device: whole texts side by side, without padding, each to one vector. What
// worker/exec/encoder.h computes on the CPU is the reference.
//
// The residual stream is float32, activations between products are half as wide; the second product of each half of a
// layer adds into the residual stream itself. Keys and values of a layer go to blocks of the arena, which the next
// layer takes over. One rank: an encoder is small.
//
// Nothing is allocated but by the first product of a shape. Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_CUDA_ENCODER_H_
#define TANDEM_WORKER_CUDA_CUDA_ENCODER_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/model/encoder_config.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/encoder_device_weights.h"
#include "worker/cuda/ops/paged_kv.h"
#include "worker/cuda/text_batch.h"

namespace tandem::worker::cuda {

// What the buffers depend on.
struct EncoderLayout {
  const model::EncoderConfig* config = nullptr;
  TextLimits limits;
  model::DType type = model::DType::kFloat16;

  PagedKv kv(void* blocks) const {
    return {.layer = blocks, .type = type, .kv_heads = config->heads, .head_dim = config->head_dim};
  }
};

// "half" is the layout's type. The working memory of a step of the largest size, laid out in one arena.
struct EncoderBuffers {
  float* residual = nullptr;         // [tokens][hidden]
  void* normed = nullptr;            // half [tokens][hidden]
  void* qkv = nullptr;               // half [tokens][3 hidden]
  void* attended = nullptr;          // half [tokens][hidden]
  void* mlp = nullptr;               // half [tokens][intermediate], where qkv is
  uint8_t* kv = nullptr;             // blocks of one layer
  int64_t kv_bytes = 0;              // finite before the first step (paged_kv.h)
  void* first = nullptr;             // half [texts][hidden]: of a classifier, the first tokens' states, and
  void* dense = nullptr;             // half [texts][hidden]
  float* vectors = nullptr;          // [texts][vector_size]: the answer
  void* matmul_workspace = nullptr;  // kMatmulWorkspaceBytes
  TextArrays step;
};

EncoderBuffers TakeEncoderBuffers(const EncoderLayout& layout, MemoryCursor* cursor);
int64_t EncoderBufferBytes(const EncoderLayout& layout);

class CudaEncoder {
 public:
  // `layout` and `buffers` belong together.
  CudaEncoder(const EncoderLayout& layout, const EncoderBuffers& buffers, DeviceEncoderWeights weights,
              std::unique_ptr<Matmul> matmul);

  // Enqueues the step whose arrays lie in the buffers. `after_layer` is called when a layer is enqueued.
  absl::Status Enqueue(const TextShape& step, cudaStream_t stream, absl::FunctionRef<absl::Status()> after_layer);

  const EncoderLayout& layout() const { return layout_; }
  const EncoderBuffers& buffers() const { return buffers_; }

 private:
  absl::Status Embedding(const TextShape& step, cudaStream_t stream);
  absl::Status AttentionBlock(const TextShape& step, const DeviceLayer& layer, cudaStream_t stream);
  absl::Status MlpBlock(const TextShape& step, const DeviceLayer& layer, cudaStream_t stream);
  absl::Status Classify(const TextShape& step, cudaStream_t stream);

  // residual = norm(residual), and normed the same.
  absl::Status Norm(const DeviceNorm& norm, int64_t rows, cudaStream_t stream);
  absl::Status Product(const DeviceLinear& linear, const void* input, int64_t rows, void* output, cudaStream_t stream);
  absl::Status AddToResidual(const DeviceLinear& linear, const void* input, int64_t rows, cudaStream_t stream);

  const EncoderLayout layout_;
  const model::EncoderConfig& config_;
  const EncoderBuffers buffers_;
  const DeviceEncoderWeights weights_;
  const std::unique_ptr<Matmul> matmul_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_CUDA_ENCODER_H_
