// Rotary positions and the way of keys and values into the cache.
//
// The angles of a step are computed once (RopeAngles) and used by every layer. Frequencies with all their scalings come
// from worker/exec/ops/rope.h, so CPU and device cannot differ in them; sines and cosines are computed as there, in the
// same operations on doubles.
#ifndef TANDEM_WORKER_CUDA_OPS_ROPE_H_
#define TANDEM_WORKER_CUDA_OPS_ROPE_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/dtype.h"
#include "worker/cuda/ops/paged_kv.h"

namespace tandem::worker::cuda {

struct RopeAnglesArgs {
  const float* frequencies = nullptr;  // [head_dim / 2], Rope::frequencies()
  float magnitude = 1;                 // RopeConfig::attention_factor
  const int32_t* positions = nullptr;  // [tokens], >= 0
  int64_t tokens = 0;
  int32_t head_dim = 0;
  float* angles = nullptr;  // [tokens][head_dim]: the cosines, then the sines
};

absl::Status RopeAngles(const RopeAnglesArgs& args, cudaStream_t stream);

// Norms the heads of queries and keys where the model does, turns them by their angles, leaves the queries where they
// were, and writes keys and values to the cache.
struct CacheKvArgs {
  void* qkv = nullptr;     // [tokens][qkv_stride] of kv.type: queries, keys, values of this rank
  int64_t qkv_stride = 0;  // elements
  int64_t tokens = 0;
  int32_t heads = 0;                  // query heads of this rank
  const float* angles = nullptr;      // of RopeAngles; null: the model has no rotary positions
  const float* query_norm = nullptr;  // [head_dim]: weight of the RMSNorm of every query head; null: none
  const float* key_norm = nullptr;    // the same of key heads; both or neither, and only with angles
  float norm_epsilon = 0;
  const int32_t* slots = nullptr;  // [tokens]: block * 16 + place in the block; below zero: a row that pads a graph
  PagedKv kv;
};

absl::Status CacheKv(const CacheKvArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_ROPE_H_
