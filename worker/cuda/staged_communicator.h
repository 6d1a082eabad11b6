// The device communicator that goes through the host: a buffer is copied to page-locked memory, summed there by the
// group's Communicator, and copied back.
//
// It needs nothing but the copies, so it works between devices that can not reach each other and where NCCL does not
// come up, and it is how a group of emulated devices is tested. Every sum crosses the host's memory: for decoding over
// a real link, NCCL is the one to have (not measured here). Sums are taken in fp32 in rank order, so all ranks hold the
// same bits, and the same again in the next run.
//
// The calling thread waits for the copy and takes the sum itself, so its calls can not be captured. A host function of
// the stream could be; but the driver may run all host functions of a process on one thread, where the sum of one rank
// would wait for that of another behind it. Nor does a stream ever stand still for a peer: what waits for the whole
// device, as the loading of a kernel may, is done in time.
#ifndef TANDEM_WORKER_CUDA_STAGED_COMMUNICATOR_H_
#define TANDEM_WORKER_CUDA_STAGED_COMMUNICATOR_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/device_communicator.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/stream.h"

namespace tandem::worker::cuda {

class StagedCommunicator final : public DeviceCommunicator {
 public:
  // `largest_bytes`: of one call, what rank 0 gathers included. `wait_limit`: of what lies on the stream before a call;
  // the peers have the limit of `control`, which outlives this.
  static absl::StatusOr<std::unique_ptr<StagedCommunicator>> Create(
      Communicator* control, int64_t largest_bytes, std::chrono::nanoseconds wait_limit = std::chrono::minutes(10));

  int rank() const override { return control_.rank(); }
  int size() const override { return control_.size(); }
  // REQUIRES: all calls on one stream.
  absl::Status AllReduceSum(void* buffer, int64_t count, model::DType type, cudaStream_t stream) override;
  absl::Status Gather(const void* send, void* receive, int64_t count, model::DType type, cudaStream_t stream) override;
  bool capturable() const override { return false; }
  std::string numerics() const override { return "rank-order"; }
  absl::Status Health() override { return control_.Health(); }
  void Abort(absl::string_view reason) override { control_.Abort(reason); }

 private:
  StagedCommunicator(Communicator* control, PinnedMemory staging, Event copied, std::chrono::nanoseconds wait_limit);
  // Waits until all that lies on the stream has happened and the bytes are in the staging memory.
  absl::Status Bring(const void* from, int64_t bytes, cudaStream_t stream);
  absl::Status Sum(size_t count, model::DType type);  // of what is in the staging memory
  absl::Status SendBack(void* to, int64_t bytes, cudaStream_t stream);

  Communicator& control_;
  PinnedMemory staging_;
  Event copied_;
  const std::chrono::nanoseconds wait_limit_;
  std::vector<float> floats_;
  std::vector<float> gathered_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_STAGED_COMMUNICATOR_H_
