// Enqueues steps of a decoder on a device: embedding, layers, logits. Families differ in data only, as on the CPU
// (worker/exec/decoder.h), which is the reference.
//
// The residual stream is float32; activations between products are half as wide. Where there is one rank, the second
// product of each half of a layer adds into the residual stream itself, and nothing is rounded in between. Where there
// are several, it is rounded, summed over the ranks, and added by the norm that follows.
//
// What is launched depends on the StepShape alone; all else is read from the step's arrays on the device. So one
// captured launch serves every step of its shape. Nothing is allocated but by the first product of a shape. How long
// any of it takes on a real device is not measured here.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_CUDA_DECODER_H_
#define TANDEM_WORKER_CUDA_CUDA_DECODER_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/model/model_config.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/decoder_buffers.h"
#include "worker/cuda/device_communicator.h"
#include "worker/cuda/device_weights.h"
#include "worker/cuda/ops/paged_kv.h"

namespace tandem::worker::cuda {

// Keys and values of all layers.
struct KvBlocks {
  uint8_t* base = nullptr;
  int64_t layer_bytes = 0;  // from one layer to the next
};

class CudaDecoder {
 public:
  // `layout` and `buffers` belong together. The pointers outlive the decoder.
  CudaDecoder(const DecoderLayout& layout, const DecoderBuffers& buffers, DeviceWeights weights,
              std::unique_ptr<Matmul> matmul, DeviceCommunicator* communicator);

  // Enqueues the step whose arrays and tables lie in the buffers, up to each rank's part of the logits and, where the
  // shape says so, the best tokens on rank 0. `after_layer` is called when a layer is enqueued.
  absl::Status Enqueue(const StepShape& step, const KvBlocks& kv, cudaStream_t stream,
                       absl::FunctionRef<absl::Status()> after_layer);

  // Enqueues every product once for so many rows, over whatever the buffers hold: what is chosen and loaded at a first
  // use is so afterwards.
  absl::Status TouchProducts(int64_t rows, cudaStream_t stream);
  // The same of the sums over the ranks: NCCL connects them anew for each way of summing, which it chooses by size, and
  // connecting is nothing for a capture. On all ranks.
  absl::Status TouchSums(int64_t rows, cudaStream_t stream);

  // Enqueues bringing so many rows of logits to rank 0, after a step. On all ranks.
  absl::Status GatherRows(int32_t rows, cudaStream_t stream);

  // Where rank `rank`'s reports of the best tokens lie after a step with so many rows. Rank 0 only.
  const RowReport* ReportsOf(int32_t rank, int32_t rows) const;
  // Where part `rank` of the logits lies after GatherRows. Rank 0 only.
  const float* LogitsOf(int32_t rank, int32_t rows) const;

  const DecoderLayout& layout() const { return layout_; }
  const DecoderBuffers& buffers() const { return buffers_; }
  const DeviceWeights& weights() const { return weights_; }

 private:
  // Where the ranks' parts of a sum over so many tokens lie.
  void* DeltaFor(int64_t tokens) const;
  absl::Status Embedding(const StepShape& step, cudaStream_t stream);
  absl::Status AttentionBlock(const StepShape& step, const DeviceLayer& layer, int32_t index, const KvBlocks& kv,
                              cudaStream_t stream);
  absl::Status Attend(const StepShape& step, int32_t index, const PagedKv& kv, cudaStream_t stream);
  absl::Status MlpBlock(const StepShape& step, const DeviceLayer& layer, cudaStream_t stream);
  absl::Status Logits(const StepShape& step, cudaStream_t stream);
  absl::Status OutputProduct(int64_t rows, cudaStream_t stream);
  absl::Status PickBest(int32_t rows, cudaStream_t stream);

  // output = norm of the residual stream, with what is still to be added to it.
  absl::Status Norm(const DeviceNorm& norm, int64_t rows, const int32_t* row_index, cudaStream_t stream);
  absl::Status Product(const DeviceLinear& linear, const void* input, int64_t rows, void* output, cudaStream_t stream);
  // The product that ends half a layer: into the residual stream, or into delta for the ranks to sum.
  absl::Status LastProduct(const DeviceLinear& linear, const void* input, int64_t rows, cudaStream_t stream);
  absl::Status AddToResidual(const DeviceLinear& linear, const void* input, int64_t rows, cudaStream_t stream);

  const DecoderLayout layout_;
  const model::DecoderConfig& config_;
  const DecoderBuffers buffers_;
  const DeviceWeights weights_;
  const DeviceLinear output_;
  const std::unique_ptr<Matmul> matmul_;
  DeviceCommunicator& communicator_;
  void* delta_;                 // DeltaFor the step
  bool delta_pending_ = false;  // it is summed and not yet added
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_CUDA_DECODER_H_
