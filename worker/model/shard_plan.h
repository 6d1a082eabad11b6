// Which part of which tensor a rank of a group holds.
//
// The cut is Megatron's: a block's first product is cut by outputs (attention by heads), its second by inputs, so that
// one sum over the ranks ends each block. The embedding and the output layer are cut by vocabulary, padded to whole
// panels on every rank; pad rows are zeros and their logits never leave the executor.
//
// Making a plan touches no tensor data and takes no memory: it is where missing tensors, wrong shapes and degrees that
// do not divide the model are refused, by name. The plan points into the WeightFiles, which must outlive it.
#ifndef TANDEM_WORKER_MODEL_SHARD_PLAN_H_
#define TANDEM_WORKER_MODEL_SHARD_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/model/model_config.h"
#include "base/model/model_memory.h"
#include "base/model/safetensors.h"
#include "worker/model/packed_matrix.h"

namespace tandem::worker {

// A matrix of this rank: the columns of its parts, side by side; columns beyond them are zero.
struct MatrixSlice {
  std::vector<MatrixSource> parts;
  int64_t columns = 0;
  int64_t inner = 0;
};

// A vector of this rank: its parts, one after the other. Empty where the model has none, or another rank adds it.
struct VectorSlice {
  struct Part {
    model::DType dtype = model::DType::kFloat32;
    const uint8_t* data = nullptr;
    int64_t count = 0;
  };
  std::vector<Part> parts;
  int64_t count = 0;
};

struct NormSlice {
  VectorSlice weight;
  VectorSlice bias;  // LayerNorm only
};

struct LinearSlice {
  MatrixSlice weight;
  VectorSlice bias;
};

struct LayerSlices {
  NormSlice attention_norm;
  LinearSlice qkv;         // queries, then keys, then values of this rank's heads
  VectorSlice query_norm;  // of every query head, head_dim wide; empty where heads have no norm
  VectorSlice key_norm;
  LinearSlice attention_out;
  NormSlice mlp_norm;
  LinearSlice mlp_in;  // gate, then up; without a gate just up
  LinearSlice mlp_out;
};

struct ShardPlan {
  model::RankShape shape;
  int32_t rank = 0;
  MatrixSlice embedding;  // one column per token of this rank's part of the vocabulary
  VectorSlice positions;  // learned positions, max_positions x hidden
  std::vector<LayerSlices> layers;
  NormSlice final_norm;
  MatrixSlice output;  // empty where it is tied to the embedding
};

absl::StatusOr<ShardPlan> PlanShard(const model::DecoderConfig& config, const model::WeightFiles& files, int32_t rank,
                                    int32_t ranks);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_SHARD_PLAN_H_
