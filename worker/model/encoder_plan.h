// Where the weights of an encoder lie in its files, as parts that an executor takes in its own layout: the counterpart
// of shard_plan.h for encoders, which have one rank.
#ifndef TANDEM_WORKER_MODEL_ENCODER_PLAN_H_
#define TANDEM_WORKER_MODEL_ENCODER_PLAN_H_

#include <vector>

#include "absl/status/statusor.h"
#include "base/model/encoder_config.h"
#include "base/model/safetensors.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker {

struct EncoderPlan {
  MatrixSlice words;      // one column per token
  VectorSlice positions;  // [positions][hidden]
  VectorSlice types;      // [types][hidden]
  NormSlice embedding_norm;
  std::vector<LayerSlices> layers;  // the norms stand behind their blocks
  LinearSlice head_dense;           // of a classifier, else empty, as is
  LinearSlice head_out;
};

// Names and shapes of all tensors are checked. The plan points into `files`.
absl::StatusOr<EncoderPlan> PlanEncoder(const model::EncoderConfig& config, const model::WeightFiles& files);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_ENCODER_PLAN_H_
