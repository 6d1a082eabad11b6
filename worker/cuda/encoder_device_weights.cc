#include "worker/cuda/encoder_device_weights.h"

namespace tandem::worker::cuda {

void VisitWeights(const EncoderPlan& plan, DeviceEncoderWeights* weights, const WeightVisitor& visitor) {
  visitor.Visit(plan.words, &weights->words);
  visitor.Visit(plan.positions, &weights->positions);
  visitor.Visit(plan.types, &weights->types);
  visitor.Visit(plan.embedding_norm, &weights->embedding_norm);
  visitor.Visit(plan.layers, &weights->layers);
  if (plan.head_dense.weight.columns == 0) return;
  visitor.Visit(plan.head_dense, &weights->head_dense);
  visitor.Visit(plan.head_out, &weights->head_out);
}

namespace {

void VisitTower(const ClipTowerPlan& plan, DeviceClipTower* tower, const WeightVisitor& visitor) {
  visitor.Visit(plan.positions, &tower->positions);
  visitor.Visit(plan.layers, &tower->layers);
  visitor.Visit(plan.last_norm, &tower->last_norm);
  visitor.Visit(plan.projection.weight, &tower->projection.weight);
}

}  // namespace

void VisitWeights(const ClipPlan& plan, DeviceClipWeights* weights, const WeightVisitor& visitor) {
  visitor.Visit(plan.words, &weights->words);
  VisitTower(plan.text, &weights->text, visitor);
  visitor.Visit(plan.class_token, &weights->class_token);
  visitor.Visit(plan.patches.weight, &weights->patches.weight);
  visitor.Visit(plan.first_norm, &weights->first_norm);
  visitor.Visit(plan.colours, &weights->colours);
  VisitTower(plan.image, &weights->image, visitor);
}

}  // namespace tandem::worker::cuda
