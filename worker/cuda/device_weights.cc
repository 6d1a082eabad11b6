#include "worker/cuda/device_weights.h"

namespace tandem::worker::cuda {

void VisitWeights(const ShardPlan& plan, DeviceWeights* weights, const WeightVisitor& visitor) {
  visitor.Visit(plan.embedding, &weights->embedding);
  visitor.Visit(plan.positions, &weights->positions);
  visitor.Visit(plan.layers, &weights->layers);
  visitor.Visit(plan.final_norm, &weights->final_norm);
  if (plan.output.columns > 0) {
    visitor.Visit(plan.output, &weights->output);
  } else {
    weights->output = weights->embedding;
  }
}

}  // namespace tandem::worker::cuda
