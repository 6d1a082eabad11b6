// Attention of many new tokens per sequence over the paged cache, on tensor cores.
//
// The keys and values of the new tokens are in the cache already (CacheKv). A query at position p sees the positions
// (p - window, p], or [0, p] without a window. Scores are taken in tiles of 64 positions from 0 (32 for heads beyond
// 128), softmax is rescaled tile by tile in float32; weights are rounded to the cache's type before they meet the
// values. A row's result depends on its own sequence only, not on the batch nor on where a prompt was cut. With
// both_ways, for encoders, every query sees all positions of its sequence.
#ifndef TANDEM_WORKER_CUDA_OPS_PREFILL_ATTENTION_H_
#define TANDEM_WORKER_CUDA_OPS_PREFILL_ATTENTION_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "worker/cuda/ops/paged_kv.h"

namespace tandem::worker::cuda {

inline constexpr int32_t kMaxHeadDim = 256;

struct PrefillAttentionArgs {
  const void* queries = nullptr;  // token t, head h at t * query_stride + h * head_dim, of kv.type
  int64_t query_stride = 0;       // elements
  void* output = nullptr;         // laid out alike
  int64_t output_stride = 0;
  // Sequence s has the tokens [token_begin[s], token_begin[s + 1]) of the step, at positions from start[s].
  const int32_t* token_begin = nullptr;   // [sequences + 1], device
  const int32_t* start = nullptr;         // [sequences], device
  const int32_t* block_tables = nullptr;  // [sequences][table_stride], device
  int64_t table_stride = 0;
  int32_t sequences = 0;
  int32_t max_tokens = 0;  // of one sequence in this step; more than that are not computed
  int32_t heads = 0;       // query heads of this rank, a multiple of kv.kv_heads
  int32_t window = 0;      // 0: none
  bool both_ways = false;  // then max_tokens is at least every sequence's count, and there is no window
  float scale = 0;
  PagedKv kv;
};

// INVALID_ARGUMENT for a type or a head size that has no kernel (head_dim <= kMaxHeadDim).
absl::Status PrefillAttention(const PrefillAttentionArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_PREFILL_ATTENTION_H_
