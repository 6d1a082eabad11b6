// The one allocation that a model's weights are on a device: counted, laid out and filled by the same walk over what is
// to be there.
//
// A kind of weights is a struct with a DeviceMemory `memory`, and a function beside it,
//   void VisitWeights(const Plan& plan, Weights* weights, const WeightVisitor& visitor);
// which hands every slice of the plan, with its place in the struct, to the visitor, always in one order.
#ifndef TANDEM_WORKER_CUDA_WEIGHT_LAYOUT_H_
#define TANDEM_WORKER_CUDA_WEIGHT_LAYOUT_H_

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/cuda/device_memory.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker::cuda {

struct DeviceNorm {
  float* weight = nullptr;
  float* bias = nullptr;  // LayerNorm only
};

struct DeviceMatrix {
  void* data = nullptr;  // [columns][inner]
  int64_t columns = 0;   // outputs
  int64_t inner = 0;     // inputs
};

struct DeviceLinear {
  DeviceMatrix weight;
  float* bias = nullptr;  // null: none here
};

struct DeviceLayer {
  DeviceNorm attention_norm;
  DeviceLinear qkv;
  float* query_norm = nullptr;  // null: heads have no norm
  float* key_norm = nullptr;
  DeviceLinear attention_out;
  DeviceNorm mlp_norm;
  DeviceLinear mlp_in;
  DeviceLinear mlp_out;
};

// Matrices are kept in the model's half-width type, one row for each output, so that a product's inner dimension is
// contiguous; vectors in float32.
class WeightVisitor {
 public:
  WeightVisitor(absl::FunctionRef<void(const MatrixSlice&, DeviceMatrix*)> matrix,
                absl::FunctionRef<void(const VectorSlice&, float**)> vector)
      : matrix_(matrix), vector_(vector) {}

  void Visit(const MatrixSlice& slice, DeviceMatrix* out) const { matrix_(slice, out); }
  void Visit(const VectorSlice& slice, float** out) const { vector_(slice, out); }
  void Visit(const NormSlice& slice, DeviceNorm* out) const;
  void Visit(const LinearSlice& slice, DeviceLinear* out) const;
  void Visit(const LayerSlices& slices, DeviceLayer* layer) const;
  void Visit(const std::vector<LayerSlices>& slices, std::vector<DeviceLayer>* layers) const;

 private:
  const absl::FunctionRef<void(const MatrixSlice&, DeviceMatrix*)> matrix_;
  const absl::FunctionRef<void(const VectorSlice&, float**)> vector_;
};
using WalkWeights = absl::FunctionRef<void(const WeightVisitor&)>;

// How weights are brought to the device: `wait_limit` bounds each copy, and `health` ends one (stream.h).
struct UploadRoad {
  cudaStream_t stream;
  std::chrono::nanoseconds wait_limit;
  absl::FunctionRef<absl::Status()> health;
};

int64_t WalkedBytes(model::DType type, WalkWeights walk);
absl::StatusOr<DeviceMemory> UploadWalked(model::DType type, WalkWeights walk, const UploadRoad& road);

// Bytes that the weights of `plan` take; its parts need not be there, only their sizes.
template <typename Weights, typename Plan>
int64_t DeviceWeightBytes(const Plan& plan, model::DType type) {
  Weights unused;
  return WalkedBytes(type, [&](const WeightVisitor& visitor) { VisitWeights(plan, &unused, visitor); });
}

// Takes the memory, says what is where, and fills it from the plan's files, which may be closed afterwards. `type` is
// kBFloat16 or kFloat16; a value that kFloat16 can not hold is refused by the number of such values. OK means that
// everything has arrived.
template <typename Weights, typename Plan>
absl::StatusOr<Weights> UploadWeights(const Plan& plan, model::DType type, const UploadRoad& road) {
  Weights weights;
  absl::StatusOr<DeviceMemory> memory = UploadWalked(
      type, [&](const WeightVisitor& visitor) { VisitWeights(plan, &weights, visitor); }, road);
  if (!memory.ok()) return memory.status();
  weights.memory = *std::move(memory);
  return weights;
}

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_WEIGHT_LAYOUT_H_
