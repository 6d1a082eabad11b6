// The way of weights from files to the device: converted on the host, and for matrices that lie the other way round
// turned, they go through two page-locked buffers: while one is copied the other is filled. How fast that is on a real
// link is for the benchmark to say.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_WEIGHT_UPLOAD_H_
#define TANDEM_WORKER_CUDA_WEIGHT_UPLOAD_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/stream.h"
#include "worker/cuda/weight_layout.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker::cuda {

class WeightUpload {
 public:
  explicit WeightUpload(const UploadRoad& road) : road_(road) {}

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

  const UploadRoad road_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
  int64_t lost_ = 0;  // values that became infinite on the way
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_WEIGHT_UPLOAD_H_
