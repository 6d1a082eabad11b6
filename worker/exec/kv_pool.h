// Keys and values of all sequences, in blocks of 16 tokens that the engine hands out by number.
//
// Layer by layer, block by block; in a block, each KV head has its keys as [head_dim][16] (sixteen tokens side by side:
// a register of scores needs no sum across lanes) and then its values as [16][padded head_dim]. Zero at first.
#ifndef TANDEM_WORKER_EXEC_KV_POOL_H_
#define TANDEM_WORKER_EXEC_KV_POOL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/model_config.h"
#include "base/model/model_memory.h"
#include "worker/exec/executor.h"
#include "worker/model/memory_arena.h"

namespace tandem::worker {

class KvPool {
 public:
  KvPool(const model::DecoderConfig& config, const model::RankShape& shape, model::DType stored);

  // Takes the memory. Once. RESOURCE_EXHAUSTED leaves the pool empty.
  absl::Status Allocate(int32_t num_blocks);

  // Writes one token's keys and values, kv_heads() x head_dim floats each.
  // REQUIRES: `block` < num_blocks(), 0 <= slot < 16.
  void Write(int32_t layer, BlockId block, int64_t slot, const float* keys, const float* values);

  const void* layer(int32_t layer) const { return arena_base_ + layer * layer_bytes_; }
  int64_t block_stride() const { return block_stride_; }  // elements
  int64_t kv_heads() const { return kv_heads_; }
  bool bf16() const { return bf16_; }
  int32_t num_blocks() const { return num_blocks_; }
  int64_t bytes_per_block() const { return bytes_per_block_; }
  int64_t bytes() const { return arena_.bytes(); }

 private:
  const int64_t layers_;
  const int64_t kv_heads_;
  const int64_t head_dim_;
  const int64_t padded_dim_;
  const bool bf16_;
  const int64_t element_bytes_;
  const int64_t block_stride_;
  const int64_t bytes_per_block_;
  int32_t num_blocks_ = 0;
  int64_t layer_bytes_ = 0;
  MemoryArena arena_;
  uint8_t* arena_base_ = nullptr;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_KV_POOL_H_
