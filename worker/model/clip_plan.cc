#include "worker/model/clip_plan.h"

#include "worker/model/clip_tensors.h"
#include "worker/model/clip_weights.h"
#include "worker/model/slice_planner.h"

namespace tandem::worker {

absl::StatusOr<ClipPlan> PlanClip(const model::ClipConfig& config, const model::WeightFiles& files) {
  if (absl::Status checked = CheckClipWeights(config, files); !checked.ok()) return checked;
  ClipPlan plan;
  SlicePlanner planner(files);
  VisitClipTensors(config, &plan, planner);
  plan.colour_values = std::make_unique<const model::ColourTable>(config.preparation.Colours());
  const model::ColourTable& colours = *plan.colour_values;
  plan.colours.count = static_cast<int64_t>(colours.size() * colours[0].size());
  plan.colours.parts.push_back(
      {model::DType::kFloat32, reinterpret_cast<const uint8_t*>(colours[0].data()), plan.colours.count});
  return plan;
}

}  // namespace tandem::worker
