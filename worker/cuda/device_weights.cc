#include "worker/cuda/device_weights.h"

#include <utility>

namespace tandem::worker::cuda {
namespace {

using model::DType;

// Walks plan and weights side by side, in one order: for counting, for laying out and for filling alike.
template <typename Matrix, typename Vector>
void Visit(const ShardPlan& plan, DeviceWeights* weights, const Matrix& matrix, const Vector& vector) {
  matrix(plan.embedding, &weights->embedding);
  vector(plan.positions, &weights->positions);
  weights->layers.resize(plan.layers.size());
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    VisitLayer(plan.layers[i], &weights->layers[i], matrix, vector);
  }
  VisitNorm(plan.final_norm, &weights->final_norm, matrix, vector);
  if (plan.output.columns > 0) {
    matrix(plan.output, &weights->output);
  } else {
    weights->output = weights->embedding;
  }
}

}  // namespace

int64_t DeviceWeightBytes(const ShardPlan& plan, DType type) {
  int64_t bytes = 0;
  DeviceWeights unused;
  Visit(
      plan, &unused, [&](const MatrixSlice& slice, DeviceMatrix*) { bytes += SliceBytes(slice, type); },
      [&](const VectorSlice& slice, float**) { bytes += SliceBytes(slice); });
  return bytes;
}

absl::StatusOr<DeviceWeights> AllocateWeights(const ShardPlan& plan, DType type) {
  absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(DeviceWeightBytes(plan, type), "the weights");
  if (!memory.ok()) return memory.status();
  DeviceWeights weights;
  weights.type = type;
  weights.memory = *std::move(memory);
  MemoryCursor cursor(weights.memory.data(), weights.memory.bytes());
  Visit(
      plan, &weights,
      [&](const MatrixSlice& slice, DeviceMatrix* matrix) { PlaceMatrix(slice, type, &cursor, matrix); },
      [&](const VectorSlice& slice, float** vector) { *vector = cursor.Take<float>(slice.count); });
  return weights;
}

absl::StatusOr<DeviceWeights> UploadWeights(const ShardPlan& plan, DType type, cudaStream_t stream,
                                            std::chrono::nanoseconds wait_limit,
                                            absl::FunctionRef<absl::Status()> health) {
  absl::StatusOr<DeviceWeights> weights = AllocateWeights(plan, type);
  if (!weights.ok()) return weights.status();
  WeightUpload upload(stream, wait_limit, health);
  absl::Status status = upload.Open();
  Visit(
      plan, &*weights,
      [&](const MatrixSlice& slice, DeviceMatrix* matrix) {
        if (status.ok()) status = upload.Matrix(slice, type, *matrix);
      },
      [&](const VectorSlice& slice, float** vector) {
        if (status.ok()) status = upload.Vector(slice, *vector);
      });
  if (status.ok()) status = upload.Finish();
  if (!status.ok()) return status;
  return weights;
}

}  // namespace tandem::worker::cuda
