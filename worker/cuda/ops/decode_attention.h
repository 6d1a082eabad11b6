// Attention of one new token per sequence over the paged cache, split along the context so that few sequences fill the
// device, with all query heads of a KV head computed together so that the cache is read once.
//
// A context is cut into partitions at fixed positions. How many there are depends on the context alone, and they are
// combined in their order: a row's result does not depend on the batch nor on the grid. Lengths are read on the
// device, so that one captured graph serves any lengths up to max_context.
#ifndef TANDEM_WORKER_CUDA_OPS_DECODE_ATTENTION_H_
#define TANDEM_WORKER_CUDA_OPS_DECODE_ATTENTION_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "worker/cuda/ops/paged_kv.h"

namespace tandem::worker::cuda {

struct DecodeAttentionArgs {
  const void* queries = nullptr;  // sequence s, head h at s * query_stride + h * head_dim, of kv.type
  int64_t query_stride = 0;       // elements
  void* output = nullptr;         // laid out alike
  int64_t output_stride = 0;
  const int32_t* contexts = nullptr;      // [sequences], device: tokens with the new one; 0: a row that pads a graph
  const int32_t* block_tables = nullptr;  // [sequences][table_stride], device
  int64_t table_stride = 0;
  int32_t sequences = 0;
  int32_t max_context = 0;  // no context is longer; fixes the cut, so equal for all calls whose results should agree
  int32_t heads = 0;        // query heads of this rank, a multiple of kv.kv_heads
  int32_t window = 0;       // 0: none
  float scale = 0;
  PagedKv kv;
  float* workspace = nullptr;  // DecodeWorkspaceBytes, 16-byte aligned; its contents mean nothing between calls
};

// Tokens of a partition.
int32_t DecodePartitionTokens(int32_t max_context);

// Bytes of workspace for up to `sequences` at once.
int64_t DecodeWorkspaceBytes(int32_t sequences, int32_t heads, int32_t head_dim, int32_t max_context);

// Rows with context 0 are set to zero. INVALID_ARGUMENT for a type or a head size that has no kernel.
absl::Status DecodeAttention(const DecodeAttentionArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_DECODE_ATTENTION_H_
