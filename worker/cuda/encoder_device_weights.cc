#include "worker/cuda/encoder_device_weights.h"

#include <utility>

namespace tandem::worker::cuda {
namespace {

using model::DType;

template <typename Matrix, typename Vector>
void Visit(const EncoderPlan& plan, DeviceEncoderWeights* weights, const Matrix& matrix, const Vector& vector) {
  matrix(plan.words, &weights->words);
  vector(plan.positions, &weights->positions);
  vector(plan.types, &weights->types);
  VisitNorm(plan.embedding_norm, &weights->embedding_norm, matrix, vector);
  weights->layers.resize(plan.layers.size());
  for (size_t i = 0; i < plan.layers.size(); ++i) VisitLayer(plan.layers[i], &weights->layers[i], matrix, vector);
  if (plan.head_dense.weight.columns == 0) return;
  VisitLinear(plan.head_dense, &weights->head_dense, matrix, vector);
  VisitLinear(plan.head_out, &weights->head_out, matrix, vector);
}

}  // namespace

int64_t DeviceEncoderWeightBytes(const EncoderPlan& plan, DType type) {
  int64_t bytes = 0;
  DeviceEncoderWeights unused;
  Visit(
      plan, &unused, [&](const MatrixSlice& slice, DeviceMatrix*) { bytes += SliceBytes(slice, type); },
      [&](const VectorSlice& slice, float**) { bytes += SliceBytes(slice); });
  return bytes;
}

absl::StatusOr<DeviceEncoderWeights> UploadEncoderWeights(const EncoderPlan& plan, DType type, cudaStream_t stream,
                                                          std::chrono::nanoseconds wait_limit,
                                                          absl::FunctionRef<absl::Status()> health) {
  absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(DeviceEncoderWeightBytes(plan, type), "the weights");
  if (!memory.ok()) return memory.status();
  DeviceEncoderWeights weights;
  weights.memory = *std::move(memory);
  MemoryCursor cursor(weights.memory.data(), weights.memory.bytes());
  WeightUpload upload(stream, wait_limit, health);
  absl::Status status = upload.Open();
  Visit(
      plan, &weights,
      [&](const MatrixSlice& slice, DeviceMatrix* matrix) {
        PlaceMatrix(slice, type, &cursor, matrix);
        if (status.ok()) status = upload.Matrix(slice, type, *matrix);
      },
      [&](const VectorSlice& slice, float** vector) {
        *vector = cursor.Take<float>(slice.count);
        if (status.ok()) status = upload.Vector(slice, *vector);
      });
  if (status.ok()) status = upload.Finish();
  if (!status.ok()) return status;
  return weights;
}

}  // namespace tandem::worker::cuda
