// The device communicator over NCCL.
//
// How it comes up. The ranks meet through the group's Communicator, which secret and epoch already fence: they compare
// NCCL's version, find out whether they can write into each other's memory (peer_check.h), and get rank 0's unique id.
// NCCL is started without blocking and polled against a deadline. An all-reduce of numbers whose sum is known then goes
// through every rank before anybody trusts it. Where devices reach each other's memory and NCCL has symmetric
// windows, sums of a few sizes are timed in one and outside, and those that are faster get room there (sum_window.h). A
// window that can not be registered may spoil the communicator: then the ranks start another one, without.
//
// How it ends. Healthy, it is finalized and destroyed, with its peers and within `finalize_limit`. After any error it
// is aborted: by a thread of its own, since ncclCommAbort may itself hang in the driver. What hangs longer than
// `abort_limit` holds the device for good, so `on_lost` is told, and only the end of the process frees it. Nothing here
// waits without a limit.
//
// The calls that enqueue belong to the engine thread; Abort() and Health() are for any.
#ifndef TANDEM_WORKER_CUDA_NCCL_COMMUNICATOR_H_
#define TANDEM_WORKER_CUDA_NCCL_COMMUNICATOR_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/device_communicator.h"
#include "worker/cuda/sum_window.h"

namespace tandem::worker::cuda {

struct NcclOptions {
  absl::Duration init_limit = absl::Seconds(60);  // of coming up, all steps together, from when all ranks are there
  absl::Duration call_limit = absl::Seconds(30);  // of one call being accepted: the first one connects the ranks
  // Of a group in order ending with its peers, who may have died meanwhile: then this rank aborts alone. Well within
  // what the scheduler gives a rank to leave (leave_deadline), or a planned end would be taken for a fault.
  absl::Duration finalize_limit = absl::Seconds(2);
  absl::Duration abort_limit = absl::Seconds(10);
  int64_t window_bytes = 0;    // of the largest sum that a window is tried for; 0: none is
  bool stuck_windows = false;  // also one whose sums an abort does not end; see NcclHasWindows
  // The device is lost to this process, as CudaExecutorOptions::on_lost. Told once at most, from any thread. Required.
  std::function<void(absl::string_view reason)> on_lost;
};

class NcclCommunicator final : public DeviceCommunicator {
 public:
  // On the calling thread's current device. Every rank of `control` calls it; `control` outlives what is returned.
  //   FAILED_PRECONDITION  the ranks differ in their NCCL, or /dev/shm is too small; in words what to do
  //   DEADLINE_EXCEEDED    not up in time
  //   INTERNAL             NCCL failed, or summed wrong
  // or what `control` answers where a peer is gone. After an error nothing is left, or the device is lost.
  static absl::StatusOr<std::unique_ptr<NcclCommunicator>> Join(Communicator* control, NcclOptions options);
  ~NcclCommunicator() override;

  int rank() const override;
  int size() const override;
  absl::Status AllReduceSum(void* buffer, int64_t count, model::DType type, cudaStream_t stream) override;
  absl::Status Gather(const void* send, void* receive, int64_t count, model::DType type, cudaStream_t stream) override;
  void* SumRoom(int64_t bytes) const override { return bytes <= window_limit_ ? window_memory_.data() : nullptr; }
  std::chrono::nanoseconds AbortTime(int64_t collectives) const override;
  bool capturable() const override { return true; }
  std::string numerics() const override;
  absl::Status Health() override;
  void Abort(absl::string_view reason) override;

 private:
  class Handle;  // of ncclComm_t
  NcclCommunicator(Communicator* control, NcclOptions options, std::shared_ptr<Handle> handle);

  // A communicator that is up, tested, and has no window.
  static absl::StatusOr<std::unique_ptr<NcclCommunicator>> Start(Communicator* control, const NcclOptions& options,
                                                                 absl::Time deadline);
  absl::Status SelfTest(absl::Time deadline);
  // Registers a window and measures whether it is worth it. False: the communicator is spoiled, on all ranks.
  absl::StatusOr<bool> TryWindow(absl::Time deadline);
  absl::Status MeasureSums(absl::Time deadline);
  // Microseconds of one sum of so many bytes at `buffer`, whose contents mean nothing; infinite where sums can not be
  // captured.
  absl::StatusOr<float> TimeSums(void* buffer, int64_t bytes, cudaStream_t stream, absl::Time deadline);
  void ForgetWindow();
  absl::Status AwaitAccepted(absl::string_view what);

  Communicator& control_;
  const NcclOptions options_;
  const std::shared_ptr<Handle> handle_;  // shared with the thread that aborts
  WindowMemory window_memory_;
  void* window_ = nullptr;  // NCCL's name of it
  int64_t window_limit_ = 0;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_NCCL_COMMUNICATOR_H_
