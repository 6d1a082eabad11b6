// How keys and values lie in device memory.
//
// Layer by layer; in a layer, block by block (kBlockTokens = 16 tokens, numbered by the engine); in a block, each KV
// head has its keys as [16][padded] and then its values as [16][padded]. A token's key is therefore one run of memory
// that starts at 16 bytes, and a block of one head is one run of 64 * padded bytes. `padded` is head_dim rounded up to
// 16; what lies beyond head_dim is zero (CacheKv writes it), so that products may run over it.
//
// Places of a block that no token of its sequence has yet may hold anything, infinities of the sequence that had the
// block before among them: no result depends on them.
#ifndef TANDEM_WORKER_CUDA_OPS_PAGED_KV_H_
#define TANDEM_WORKER_CUDA_OPS_PAGED_KV_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "base/model/dtype.h"

namespace tandem::worker::cuda {

inline constexpr int32_t kKvBlockTokens = 16;

struct PagedKv {
  void* layer = nullptr;  // of the layer in question, device memory, 16-byte aligned
  model::DType type = model::DType::kBFloat16;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;

  __host__ __device__ constexpr int32_t padded() const { return (head_dim + 15) / 16 * 16; }
  __host__ __device__ constexpr int64_t head_stride() const {
    return int64_t{2} * kKvBlockTokens * padded();
  }                                                                                                // elements
  __host__ __device__ constexpr int64_t block_stride() const { return kv_heads * head_stride(); }  // elements
  constexpr int64_t bytes_per_block() const { return block_stride() * model::BytesOf(type); }
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_PAGED_KV_H_
