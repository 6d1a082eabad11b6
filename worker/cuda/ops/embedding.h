// Token embeddings into the residual stream, from the rows of the vocabulary that this rank holds.
#ifndef TANDEM_WORKER_CUDA_OPS_EMBEDDING_H_
#define TANDEM_WORKER_CUDA_OPS_EMBEDDING_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

// All pointers are device memory.
struct EmbeddingArgs {
  const int32_t* tokens = nullptr;  // [count]; below zero: a row that pads a graph, set to zero
  int64_t count = 0;
  const void* table = nullptr;  // [rows][hidden] of `type`
  model::DType type = model::DType::kBFloat16;
  int32_t first_token = 0;  // the token of row 0; tokens of other ranks give rows of zeros
  int32_t rows = 0;
  int32_t hidden = 0;
  // Learned positions, added in float32; null: none. Where ranks are summed afterwards, only one may add them.
  const float* learned_positions = nullptr;  // [positions][hidden]
  const int32_t* positions = nullptr;        // [count], read only with learned_positions
  // Of an encoder: which of the texts of a pair a token is of, added in the same way; null: none.
  const float* segment_table = nullptr;  // [segments][hidden]
  const int32_t* segments = nullptr;     // [count], read only with segment_table
  float* residual = nullptr;             // [count][hidden], written
};

// kBFloat16 and kFloat16; INVALID_ARGUMENT for another type. `hidden` is any number; a multiple of 4 with 16-byte
// aligned pointers takes the wide path.
absl::Status Embed(const EmbeddingArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_EMBEDDING_H_
