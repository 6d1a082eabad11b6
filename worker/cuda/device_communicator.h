// A DeviceCommunicator carries tensors that lie on devices between the ranks of one group.
//
// It is the data plane beside the group's Communicator (worker/comm/communicator.h), which stays the control plane:
// small facts, barriers, the watch over peers, and abort. A group has one of each, over the same ranks; whatever the
// data plane needs to come up (NCCL's unique id) travels over the control plane, which the group's secret and epoch
// already fence.
//
// Every rank issues the same calls in the same order with the same sizes. A call only enqueues on `stream`: OK means
// "accepted", and buffers belong to the call until the stream has passed it. What fails later shows in Health(), which
// whoever waits for the stream polls together with its deadline (worker/cuda/stream.h): a peer that died leaves the
// stream standing still, without an error of its own. After any error the communicator is spent.
//
// Where capturable(), calls may be captured into a CUDA graph. Then every rank captures the same graphs in the same
// order, and replays the same one for the same step. Where not, a call may also wait for the peers itself.
//
// Belongs to the engine thread. Abort() alone may be called from elsewhere.
#ifndef TANDEM_WORKER_CUDA_DEVICE_COMMUNICATOR_H_
#define TANDEM_WORKER_CUDA_DEVICE_COMMUNICATOR_H_

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

class DeviceCommunicator {
 public:
  // Returns only once nothing of it touches device memory any more, or after its own deadline for that.
  virtual ~DeviceCommunicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Replaces `count` elements at `buffer` on every rank by the sum over all ranks, in place.
  // REQUIRES: count and type are equal on all ranks.
  virtual absl::Status AllReduceSum(void* buffer, int64_t count, model::DType type, cudaStream_t stream) = 0;

  // Rank 0 receives the `count` elements of every rank, in rank order, at `receive`, which is null elsewhere.
  // REQUIRES: as AllReduceSum; on rank 0 `receive` has room for size() * count elements and does not overlap `send`.
  virtual absl::Status Gather(const void* send, void* receive, int64_t count, model::DType type,
                              cudaStream_t stream) = 0;

  // Where a tensor of so many bytes should lie that is summed again and again: memory that lives as long as this, for
  // one tensor at a time. Null: anywhere else is as good. Equal on all ranks, and always the same for the same size.
  virtual void* SumRoom(int64_t /*bytes*/) const { return nullptr; }

  // How long `collectives` that are enqueued one after the other may need, beyond the time of one, until all have
  // heeded an abort.
  virtual std::chrono::nanoseconds AbortTime(int64_t /*collectives*/) const { return std::chrono::nanoseconds(0); }

  virtual bool capturable() const = 0;

  // How sums are taken, for numerics_id: "nccl-2.28.3", "rank-order".
  virtual std::string numerics() const = 0;

  // OK, or why this communicator is spent: an error found on the device, or by the peers. Cheap enough to poll.
  virtual absl::Status Health() = 0;

  // Ends what is in flight, here and (through the control plane) at the peers. Idempotent. Returns within a bounded
  // time, whether the device obeyed or not: whether it did shows in the stream.
  virtual void Abort(absl::string_view reason) = 0;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DEVICE_COMMUNICATOR_H_
