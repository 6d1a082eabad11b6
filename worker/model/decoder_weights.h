// One rank's weights of a decoder, in memory: matrices packed for the kernels, norms and biases in float32.
#ifndef TANDEM_WORKER_MODEL_DECODER_WEIGHTS_H_
#define TANDEM_WORKER_MODEL_DECODER_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/model/memory_arena.h"
#include "worker/model/packed_matrix.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker {

struct NormWeights {
  const float* weight = nullptr;
  const float* bias = nullptr;
};

struct LinearWeights {
  PackedMatrix weight;
  const float* bias = nullptr;  // null: none here
};

struct LayerWeights {
  NormWeights attention_norm;
  LinearWeights qkv;
  const float* query_norm = nullptr;  // null: heads have no norm
  const float* key_norm = nullptr;
  LinearWeights attention_out;
  NormWeights mlp_norm;
  LinearWeights mlp_in;
  LinearWeights mlp_out;
};

struct DecoderWeights {
  PackedMatrix embedding;
  const float* positions = nullptr;
  std::vector<LayerWeights> layers;
  NormWeights final_norm;
  PackedMatrix output;  // the embedding itself where the two are tied

  int64_t vector_bytes = 0;  // norms, biases, positions
  int64_t packed_bytes = 0;  // matrices
  MemoryArena arena;         // holds all of it
};

// Bytes that LoadDecoderWeights will take.
int64_t WeightBytes(const ShardPlan& plan, model::DType stored);

// Copies the planned slices out of the files. The files may be closed afterwards.
absl::StatusOr<DecoderWeights> LoadDecoderWeights(const ShardPlan& plan, model::DType stored);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_DECODER_WEIGHTS_H_
