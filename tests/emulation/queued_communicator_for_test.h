// A device communicator whose calls are work of the emulated stream, as NCCL's are of a real one: they can be captured,
// and a stream stands still while a peer does not come. Ranks may be threads of one process.
#ifndef TANDEM_TESTS_EMULATION_QUEUED_COMMUNICATOR_FOR_TEST_H_
#define TANDEM_TESTS_EMULATION_QUEUED_COMMUNICATOR_FOR_TEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "tests/emulation/control.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/device_communicator.h"
#include "worker/model/packed_matrix.h"

namespace tandem::worker::cuda {

class QueuedCommunicator final : public DeviceCommunicator {
 public:
  // REQUIRES: `control` outlives this, and what was enqueued.
  explicit QueuedCommunicator(Communicator* control) : control_(*control) {}

  int rank() const override { return control_.rank(); }
  int size() const override { return control_.size(); }

  absl::Status AllReduceSum(void* buffer, int64_t count, model::DType type, cudaStream_t stream) override {
    return Enqueue(stream, [this, buffer, count, type] {
      std::vector<float> values(static_cast<size_t>(count));
      ConvertToFloat(type, static_cast<const uint8_t*>(buffer), count, values.data());
      const absl::Status summed = control_.AllReduceSum(absl::MakeSpan(values));
      for (size_t i = 0; summed.ok() && i < values.size(); ++i) {
        if (type == model::DType::kFloat32) {
          static_cast<float*>(buffer)[i] = values[i];
        } else {
          static_cast<uint16_t*>(buffer)[i] = type == model::DType::kBFloat16 ? model::BFloat16FromFloat(values[i])
                                                                              : model::Float16FromFloat(values[i]);
        }
      }
    });
  }

  absl::Status Gather(const void* send, void* receive, int64_t count, model::DType, cudaStream_t stream) override {
    return Enqueue(stream, [this, send, receive, count] {
      const size_t values = static_cast<size_t>(count);
      const size_t all = rank() == 0 ? values * static_cast<size_t>(size()) : 0;
      // A call that fails is seen by Health(), as everywhere.
      (void)control_.Gather(absl::MakeConstSpan(static_cast<const float*>(send), values),
                            absl::MakeSpan(static_cast<float*>(receive), all));
    });
  }

  bool capturable() const override { return true; }
  std::string numerics() const override { return "queued"; }
  absl::Status Health() override { return control_.Health(); }
  void Abort(absl::string_view reason) override { control_.Abort(reason); }

 private:
  template <typename Work>
  absl::Status Enqueue(cudaStream_t stream, Work work) {
    const cudaError_t error = emulation::Enqueue(stream, [work] {
      work();
      return cudaSuccess;
    });
    return error == cudaSuccess ? absl::OkStatus() : absl::InternalError(cudaGetErrorString(error));
  }

  Communicator& control_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_TESTS_EMULATION_QUEUED_COMMUNICATOR_FOR_TEST_H_
