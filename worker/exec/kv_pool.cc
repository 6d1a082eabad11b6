#include "worker/exec/kv_pool.h"

#include <glog/logging.h>

#include <utility>

namespace tandem::worker {

using model::DType;

KvPool::KvPool(const model::DecoderConfig& config, const model::RankShape& shape, DType stored)
    : layers_(config.layers),
      kv_heads_(shape.kv_heads),
      head_dim_(config.head_dim),
      padded_dim_(model::RoundUp(config.head_dim, model::kKvLanes)),
      bf16_(stored == DType::kBFloat16),
      element_bytes_(model::BytesOf(stored)),
      block_stride_(kv_heads_ * 2 * padded_dim_ * kBlockTokens),
      bytes_per_block_(layers_ * block_stride_ * element_bytes_) {
  CHECK_EQ(bytes_per_block_, kBlockTokens * model::KvBytesPerToken(config, shape, stored));
}

absl::Status KvPool::Allocate(int32_t num_blocks) {
  CHECK_EQ(num_blocks_, 0) << "the pool is allocated once";
  CHECK_GT(num_blocks, 0);
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(num_blocks * bytes_per_block_);
  if (!arena.ok()) return arena.status();
  if (absl::Status resident = arena->Reside(); !resident.ok()) return resident;
  arena_ = *std::move(arena);
  arena_base_ = arena_.Take(arena_.bytes());
  num_blocks_ = num_blocks;
  layer_bytes_ = num_blocks * block_stride_ * element_bytes_;
  return absl::OkStatus();
}

void KvPool::Write(int32_t layer, BlockId block, int64_t slot, const float* keys, const float* values) {
  uint8_t* const at = arena_base_ + layer * layer_bytes_ + block * block_stride_ * element_bytes_;
  const auto write = [&](auto* base, auto convert) {
    for (int64_t head = 0; head < kv_heads_; ++head) {
      auto* key = base + head * 2 * padded_dim_ * kBlockTokens;
      auto* value = key + padded_dim_ * kBlockTokens + slot * padded_dim_;
      for (int64_t d = 0; d < head_dim_; ++d) {
        key[d * kBlockTokens + slot] = convert(keys[head * head_dim_ + d]);
        value[d] = convert(values[head * head_dim_ + d]);
      }
    }
  };
  if (bf16_) {
    write(reinterpret_cast<uint16_t*>(at), model::BFloat16FromFloat);
  } else {
    write(reinterpret_cast<float*>(at), [](float x) { return x; });
  }
}

}  // namespace tandem::worker
