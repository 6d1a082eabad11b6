// The layers of encoders on a device: what those of texts (cuda_encoder.h) and both towers of CLIP (cuda_clip.h)
// compute alike, over rows of many sequences side by side, without padding.
//
// The residual stream is float32, activations between products are half as wide; the second product of each half of a
// layer adds into the residual stream itself. Keys and values of a layer go to blocks of the arena, which the next
// layer takes over. One rank: an encoder is small.
//
// Nothing is allocated but by the first product of a shape. Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_ENCODER_LAYERS_H_
#define TANDEM_WORKER_CUDA_ENCODER_LAYERS_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/model/dtype.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/ops/activation.h"
#include "worker/cuda/text_batch.h"
#include "worker/cuda/weight_layout.h"

namespace tandem::worker::cuda {

struct EncoderTower {
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate = 0;
  ActivationKind activation = ActivationKind::kGeluErf;
  float norm_epsilon = 0;
  bool norms_first = false;  // each norm stands before its block; else behind it, and what it gives is what goes on
  bool both_ways = true;     // else a token sees what stands before it, and itself
};

// The working memory of layers. "half" is the model's type. What several towers take in turn is as large as the largest
// needs it.
struct TowerBuffers {
  float* residual = nullptr;   // [tokens][hidden]
  void* normed = nullptr;      // half [tokens][hidden]
  uint8_t* scratch = nullptr;  // half, attention: [tokens][3 hidden], [tokens][hidden]; MLP: [tokens][intermediate]
  uint8_t* kv = nullptr;       // blocks of one layer
  void* matmul_workspace = nullptr;  // kMatmulWorkspaceBytes
};

struct TowerRoom {
  EncoderTower tower;
  TextLimits limits;
};
// `other_scratch`: bytes that somebody else needs of `scratch`, before or after the layers.
TowerBuffers TakeTowerBuffers(absl::Span<const TowerRoom> towers, model::DType type, int64_t other_scratch,
                              MemoryCursor* cursor);

class EncoderLayers {
 public:
  static absl::StatusOr<std::unique_ptr<EncoderLayers>> Create(model::DType type, const TowerBuffers& buffers);

  // Enqueues the layers over the rows of `step`, from residual to residual. Where the norms stand behind their blocks,
  // `normed` holds the rows too, before and after. `after_layer` is called when a layer is enqueued.
  absl::Status Run(const EncoderTower& tower, const std::vector<DeviceLayer>& layers, const TextShape& step,
                   const TextArrays& arrays, int64_t table_stride, cudaStream_t stream,
                   absl::FunctionRef<absl::Status()> after_layer);

  // normed = norm(residual).
  absl::Status Norm(const EncoderTower& tower, const DeviceNorm& norm, int64_t rows, cudaStream_t stream);
  // residual = norm(residual), and normed the same.
  absl::Status NormInPlace(const EncoderTower& tower, const DeviceNorm& norm, int64_t rows, cudaStream_t stream);
  // residual += linear(input).
  absl::Status AddToResidual(const EncoderTower& tower, const DeviceLinear& linear, const void* input, int64_t rows,
                             cudaStream_t stream);
  // output = linear(input), both half.
  absl::Status Product(const DeviceLinear& linear, const void* input, int64_t rows, void* output, cudaStream_t stream);

  const TowerBuffers& buffers() const { return buffers_; }
  model::DType type() const { return type_; }
  Matmul& matmul() { return *matmul_; }

 private:
  EncoderLayers(model::DType type, const TowerBuffers& buffers, std::unique_ptr<Matmul> matmul)
      : type_(type), buffers_(buffers), matmul_(std::move(matmul)) {}

  absl::Status Attention(const EncoderTower& tower, const DeviceLayer& layer, const TextShape& step,
                         const TextArrays& arrays, int64_t table_stride, cudaStream_t stream);
  absl::Status Mlp(const EncoderTower& tower, const DeviceLayer& layer, int64_t rows, cudaStream_t stream);

  const model::DType type_;
  const TowerBuffers buffers_;
  const std::unique_ptr<Matmul> matmul_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_ENCODER_LAYERS_H_
