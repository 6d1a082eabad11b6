#include "worker/model/encoder_plan.h"

#include "worker/model/encoder_tensors.h"
#include "worker/model/encoder_weights.h"
#include "worker/model/slice_planner.h"

namespace tandem::worker {

absl::StatusOr<EncoderPlan> PlanEncoder(const model::EncoderConfig& config, const model::WeightFiles& files) {
  if (absl::Status checked = CheckEncoderWeights(config, files); !checked.ok()) return checked;
  EncoderPlan plan;
  SlicePlanner planner(files);
  VisitEncoderTensors(config, NamesAreBare(files), &plan, planner);
  return plan;
}

}  // namespace tandem::worker
