// The way of weights from files to the device: converted on the host, and for matrices that lie the other way round
// turned, they go through two page-locked buffers: while one is copied the other is filled. How fast that is on a real
// link is for the benchmark to say.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_WEIGHT_UPLOAD_H_
#define TANDEM_WORKER_CUDA_WEIGHT_UPLOAD_H_

#include <cuda_runtime.h>

#include <array>
#include <chrono>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/stream.h"
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
  DeviceLinear attention_out;
  DeviceNorm mlp_norm;
  DeviceLinear mlp_in;
  DeviceLinear mlp_out;
};

// Walk slices and their places on the device side by side: for counting, for laying out and for filling alike.
// `matrix` takes (const MatrixSlice&, DeviceMatrix*), `vector` (const VectorSlice&, float**).
template <typename Matrix, typename Vector>
void VisitNorm(const NormSlice& slice, DeviceNorm* out, const Matrix&, const Vector& vector) {
  vector(slice.weight, &out->weight);
  vector(slice.bias, &out->bias);
}
template <typename Matrix, typename Vector>
void VisitLinear(const LinearSlice& slice, DeviceLinear* out, const Matrix& matrix, const Vector& vector) {
  matrix(slice.weight, &out->weight);
  vector(slice.bias, &out->bias);
}
template <typename Matrix, typename Vector>
void VisitLayer(const LayerSlices& slices, DeviceLayer* layer, const Matrix& matrix, const Vector& vector) {
  VisitNorm(slices.attention_norm, &layer->attention_norm, matrix, vector);
  VisitLinear(slices.qkv, &layer->qkv, matrix, vector);
  VisitLinear(slices.attention_out, &layer->attention_out, matrix, vector);
  VisitNorm(slices.mlp_norm, &layer->mlp_norm, matrix, vector);
  VisitLinear(slices.mlp_in, &layer->mlp_in, matrix, vector);
  VisitLinear(slices.mlp_out, &layer->mlp_out, matrix, vector);
}

// Bytes of a slice in the one allocation that weights are.
int64_t SliceBytes(const MatrixSlice& slice, model::DType type);
int64_t SliceBytes(const VectorSlice& slice);
// Its place there.
void PlaceMatrix(const MatrixSlice& slice, model::DType type, MemoryCursor* cursor, DeviceMatrix* matrix);

class WeightUpload {
 public:
  // `wait_limit` bounds each copy, and `health` ends one (stream.h).
  WeightUpload(cudaStream_t stream, std::chrono::nanoseconds wait_limit, absl::FunctionRef<absl::Status()> health)
      : stream_(stream), wait_limit_(wait_limit), health_(health) {}

  absl::Status Open();
  // In `type`; columns beyond the slice's parts become zero.
  absl::Status Matrix(const MatrixSlice& slice, model::DType type, const DeviceMatrix& matrix);
  // In float32.
  absl::Status Vector(const VectorSlice& slice, float* to);
  // OK means that everything has arrived. INVALID_ARGUMENT where float16 could not hold what was sent, by the number of
  // such values.
  absl::Status Finish();

 private:
  struct Buffer {
    PinnedMemory memory;
    Event copied;
    bool in_flight = false;
  };

  // Where the next bytes may be written, until Send.
  absl::StatusOr<uint8_t*> Room();
  absl::Status Send(void* to, int64_t bytes);
  absl::Status Await(Buffer& buffer);

  const cudaStream_t stream_;
  const std::chrono::nanoseconds wait_limit_;
  const absl::FunctionRef<absl::Status()> health_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
  int64_t lost_ = 0;  // values that became infinite on the way
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_WEIGHT_UPLOAD_H_
