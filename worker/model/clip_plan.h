// Where the weights of a CLIP model lie in its files, as parts that an executor takes in its own layout: encoder_plan.h
// for two towers.
#ifndef TANDEM_WORKER_MODEL_CLIP_PLAN_H_
#define TANDEM_WORKER_MODEL_CLIP_PLAN_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/model/clip_config.h"
#include "base/model/safetensors.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker {

struct ClipTowerPlan {
  VectorSlice positions;            // [positions][hidden]
  std::vector<LayerSlices> layers;  // the norms stand before their blocks
  NormSlice last_norm;
  LinearSlice projection;  // no bias
};

struct ClipPlan {
  ClipTowerPlan text;
  ClipTowerPlan image;
  MatrixSlice words;        // one column per token
  MatrixSlice class_token;  // one column
  LinearSlice patches;      // [hidden of pictures][3 patch patch], no bias
  NormSlice first_norm;     // of pictures, before the first layer
  // No tensor: what a byte of each colour stands for, [3][256].
  std::unique_ptr<const model::ColourTable> colour_values;
  VectorSlice colours;
};

// Names and shapes of all tensors are checked. The plan points into `files`.
absl::StatusOr<ClipPlan> PlanClip(const model::ClipConfig& config, const model::WeightFiles& files);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_CLIP_PLAN_H_
