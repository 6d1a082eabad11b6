#include "worker/model/decoder_weights.h"

#include <utility>

namespace tandem::worker {
namespace {

// Walks the plan in one order, for counting and for loading alike.
template <typename Matrix, typename Vector>
void VisitLayer(const LayerSlices& plan, LayerWeights* layer, const Matrix& matrix, const Vector& vector) {
  const auto norm = [&](const NormSlice& slice, NormWeights* weights) {
    vector(slice.weight, &weights->weight);
    vector(slice.bias, &weights->bias);
  };
  const auto linear = [&](const LinearSlice& slice, LinearWeights* weights) {
    matrix(slice.weight, &weights->weight);
    vector(slice.bias, &weights->bias);
  };
  norm(plan.attention_norm, &layer->attention_norm);
  linear(plan.qkv, &layer->qkv);
  vector(plan.query_norm, &layer->query_norm);
  vector(plan.key_norm, &layer->key_norm);
  linear(plan.attention_out, &layer->attention_out);
  norm(plan.mlp_norm, &layer->mlp_norm);
  linear(plan.mlp_in, &layer->mlp_in);
  linear(plan.mlp_out, &layer->mlp_out);
}

template <typename Matrix, typename Vector>
void Visit(const ShardPlan& plan, DecoderWeights* weights, const Matrix& matrix, const Vector& vector) {
  matrix(plan.embedding, &weights->embedding);
  vector(plan.positions, &weights->positions);
  weights->layers.resize(plan.layers.size());
  for (size_t i = 0; i < plan.layers.size(); ++i) VisitLayer(plan.layers[i], &weights->layers[i], matrix, vector);
  vector(plan.final_norm.weight, &weights->final_norm.weight);
  vector(plan.final_norm.bias, &weights->final_norm.bias);
  if (plan.output.columns > 0) {
    matrix(plan.output, &weights->output);
  } else {
    weights->output = weights->embedding;
  }
}

int64_t VectorBytes(const VectorSlice& slice) { return model::RoundUp(slice.count * 4, model::kBufferAlignment); }

}  // namespace

int64_t WeightBytes(const ShardPlan& plan, model::DType stored) {
  int64_t bytes = 0;
  DecoderWeights unused;
  Visit(
      plan, &unused,
      [&](const MatrixSlice& slice, PackedMatrix*) { bytes += model::PackedBytes(slice.columns, slice.inner, stored); },
      [&](const VectorSlice& slice, const float**) { bytes += VectorBytes(slice); });
  return bytes;
}

absl::StatusOr<DecoderWeights> LoadDecoderWeights(const ShardPlan& plan, model::DType stored) {
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(WeightBytes(plan, stored));
  if (!arena.ok()) return arena.status();
  DecoderWeights weights;
  weights.arena = *std::move(arena);
  Visit(
      plan, &weights,
      [&](const MatrixSlice& slice, PackedMatrix* matrix) {
        *matrix = PackedMatrix{stored, slice.columns, slice.inner, nullptr};
        matrix->data = weights.arena.Take(matrix->bytes());
        weights.packed_bytes += matrix->bytes();
        int64_t column = 0;
        for (const MatrixSource& part : slice.parts) {
          PackColumns(part, column, matrix);
          column += part.columns;
        }
      },
      [&](const VectorSlice& slice, const float** vector) {
        if (slice.count == 0) return;
        float* out = weights.arena.TakeFloats(slice.count);
        weights.vector_bytes += VectorBytes(slice);
        *vector = out;
        for (const VectorSlice::Part& part : slice.parts) {
          ConvertToFloat(part.dtype, part.data, part.count, out);
          out += part.count;
        }
      });
  return weights;
}

}  // namespace tandem::worker
