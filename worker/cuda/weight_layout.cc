#include "worker/cuda/weight_layout.h"

#include "base/model/model_memory.h"
#include "worker/cuda/weight_upload.h"

namespace tandem::worker::cuda {

using model::DType;

void WeightVisitor::Visit(const NormSlice& slice, DeviceNorm* out) const {
  Visit(slice.weight, &out->weight);
  Visit(slice.bias, &out->bias);
}

void WeightVisitor::Visit(const LinearSlice& slice, DeviceLinear* out) const {
  Visit(slice.weight, &out->weight);
  Visit(slice.bias, &out->bias);
}

void WeightVisitor::Visit(const LayerSlices& slices, DeviceLayer* layer) const {
  Visit(slices.attention_norm, &layer->attention_norm);
  Visit(slices.qkv, &layer->qkv);
  Visit(slices.query_norm, &layer->query_norm);
  Visit(slices.key_norm, &layer->key_norm);
  Visit(slices.attention_out, &layer->attention_out);
  Visit(slices.mlp_norm, &layer->mlp_norm);
  Visit(slices.mlp_in, &layer->mlp_in);
  Visit(slices.mlp_out, &layer->mlp_out);
}

void WeightVisitor::Visit(const std::vector<LayerSlices>& slices, std::vector<DeviceLayer>* layers) const {
  layers->resize(slices.size());
  for (size_t i = 0; i < slices.size(); ++i) Visit(slices[i], &(*layers)[i]);
}

int64_t WalkedBytes(DType type, WalkWeights walk) {
  MemoryCursor counting = MemoryCursor::Counting();
  walk({[&](const MatrixSlice& slice, DeviceMatrix*) {
          counting.TakeBytes(slice.columns * slice.inner * model::BytesOf(type));
        },
        [&](const VectorSlice& slice, float**) { counting.Take<float>(slice.count); }});
  return counting.taken();
}

absl::StatusOr<DeviceMemory> UploadWalked(DType type, WalkWeights walk, const UploadRoad& road) {
  absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(WalkedBytes(type, walk), "the weights");
  if (!memory.ok()) return memory;
  MemoryCursor cursor(memory->data(), memory->bytes());
  WeightUpload upload(road);
  absl::Status status = upload.Open();
  walk({[&](const MatrixSlice& slice, DeviceMatrix* matrix) {
          *matrix = {cursor.TakeBytes(slice.columns * slice.inner * model::BytesOf(type)), slice.columns, slice.inner};
          if (status.ok()) status = upload.Matrix(slice, type, *matrix);
        },
        [&](const VectorSlice& slice, float** vector) {
          *vector = cursor.Take<float>(slice.count);
          if (status.ok()) status = upload.Vector(slice, *vector);
        }});
  if (status.ok()) status = upload.Finish();
  if (!status.ok()) return status;
  return memory;
}

}  // namespace tandem::worker::cuda
