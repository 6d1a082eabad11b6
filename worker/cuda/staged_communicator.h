// The device communicator that goes through the host: a buffer is copied to page-locked memory, summed there by the
// group's Communicator, and copied back.
//
// It needs nothing but the copies, so it works between devices that can not reach each other and where NCCL does not
// come up, and it is how a group of emulated devices is tested. Every sum crosses the host's memory and holds a thread
// of the driver meanwhile: for decoding over a real link, NCCL is the one to have (not measured here). Sums are taken
// in fp32 in rank order, so all ranks hold the same bits, and the same again in the next run.
//
// The summing is a host function of the stream, so calls can be captured. The group's Communicator is used from the
// driver's thread while the engine thread waits for the stream, never by both at once: the engine touches it only
// between steps. Its own deadline bounds each call, and its Abort() ends one.
#ifndef TANDEM_WORKER_CUDA_STAGED_COMMUNICATOR_H_
#define TANDEM_WORKER_CUDA_STAGED_COMMUNICATOR_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/device_communicator.h"
#include "worker/cuda/device_memory.h"

namespace tandem::worker::cuda {

class StagedCommunicator final : public DeviceCommunicator {
 public:
  // `largest_bytes`: of one call, what rank 0 gathers included. `control` outlives this.
  static absl::StatusOr<std::unique_ptr<StagedCommunicator>> Create(Communicator* control, int64_t largest_bytes);
  ~StagedCommunicator() override;

  int rank() const override { return control_.rank(); }
  int size() const override { return control_.size(); }
  absl::Status AllReduceSum(void* buffer, int64_t count, model::DType type, cudaStream_t stream) override;
  absl::Status Gather(const void* send, void* receive, int64_t count, model::DType type, cudaStream_t stream) override;
  bool capturable() const override { return true; }
  std::string numerics() const override { return "rank-order"; }
  absl::Status Health() override;
  void Abort(absl::string_view reason) override { control_.Abort(reason); }

 private:
  enum class Kind : uint8_t { kSum, kGather };
  // What a host function works on. One for each different call, kept as long as this: a graph may run it at any time.
  struct Call {
    StagedCommunicator* self = nullptr;
    Kind kind = Kind::kSum;
    int64_t count = 0;
    model::DType type = model::DType::kFloat32;
  };

  StagedCommunicator(Communicator* control, PinnedMemory staging);
  absl::Status Enqueue(Kind kind, const void* send, void* receive, int64_t count, model::DType type,
                       cudaStream_t stream);
  static void RunCall(void* call);
  absl::Status Sum(const Call& call);
  absl::Status Collect(const Call& call);

  Communicator& control_;
  PinnedMemory staging_;
  std::map<std::tuple<Kind, int64_t, model::DType>, std::unique_ptr<Call>> calls_;
  // Of the thread that runs host functions:
  std::vector<float> floats_;
  std::vector<float> gathered_;

  std::mutex mu_;
  absl::Status failed_;  // Guarded by mu_.
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_STAGED_COMMUNICATOR_H_
