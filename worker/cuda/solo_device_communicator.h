// The device communicator of a group of one: sums are what they are, and a gather is a copy.
#ifndef TANDEM_WORKER_CUDA_SOLO_DEVICE_COMMUNICATOR_H_
#define TANDEM_WORKER_CUDA_SOLO_DEVICE_COMMUNICATOR_H_

#include <string>

#include "worker/comm/communicator.h"
#include "worker/cuda/check.h"
#include "worker/cuda/device_communicator.h"

namespace tandem::worker::cuda {

class SoloDeviceCommunicator final : public DeviceCommunicator {
 public:
  // REQUIRES: `control` outlives this.
  explicit SoloDeviceCommunicator(Communicator* control) : control_(*control) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }

  absl::Status AllReduceSum(void*, int64_t, model::DType, cudaStream_t) override { return absl::OkStatus(); }

  absl::Status Gather(const void* send, void* receive, int64_t count, model::DType type, cudaStream_t stream) override {
    const cudaError_t copied = cudaMemcpyAsync(receive, send, static_cast<size_t>(count * model::BytesOf(type)),
                                               cudaMemcpyDeviceToDevice, stream);
    return ToStatus(copied, "a copy on the device");
  }

  bool capturable() const override { return true; }
  std::string numerics() const override { return "solo"; }
  absl::Status Health() override { return control_.Health(); }
  void Abort(absl::string_view reason) override { control_.Abort(reason); }

 private:
  Communicator& control_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_SOLO_DEVICE_COMMUNICATOR_H_
