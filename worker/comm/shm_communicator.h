// The communicator of 2 to 16 ranks on one host, through shared memory.
//
// Everything is made of phases. In phase p a rank lays its data into its own slot (half p % 2), raises `arrived` to p,
// waits until the peers whose data it needs have arrived at p too, and reads their slots. Raising `arrived` to p also
// says "I have read all that phase p - 1 laid out". So a rank may write phase p as soon as everyone has arrived at p -
// 1: the half it writes was last read in phase p - 2. Two halves suffice, and no acknowledgements travel.
//
// Sums take one of two ways, chosen by size and rank count alone, with the same bits:
//   one shot    each rank lays out all of its part and reads everyone's. One phase; best for small messages, and for
//   two
//               ranks, where it moves no more bytes than the other way.
//   two shots   each rank sums its own n-th and lays the result out for the others. Two phases, and 2n bytes moved per
//               rank instead of n * ranks.
// Messages larger than a slot go in pieces.
//
// Each call has the deadline `call_timeout`. OK means done.
#ifndef TANDEM_WORKER_COMM_SHM_COMMUNICATOR_H_
#define TANDEM_WORKER_COMM_SHM_COMMUNICATOR_H_

#include <chrono>
#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/group_member.h"

namespace tandem::worker {

class ShmCommunicator final : public Communicator {
 public:
  // REQUIRES: 2 <= member->size(); no other communicator used this memory before.
  ShmCommunicator(std::shared_ptr<GroupMember> member, absl::Duration call_timeout);

  int rank() const override { return member_->rank(); }
  int size() const override { return member_->size(); }

  absl::Status AllReduceSum(absl::Span<float> values) override;
  absl::Status Gather(absl::Span<const float> send, absl::Span<float> receive) override;
  absl::Status AllGather(absl::Span<const uint8_t> send, absl::Span<uint8_t> receive) override;
  absl::Status Barrier() override;
  absl::Status Health() const override { return member_->Health(); }
  void Abort(absl::string_view reason) override { member_->Abort(reason); }

 private:
  // A call in flight: its name and its deadline.
  struct Call {
    absl::string_view action;
    SteadyTime deadline;
  };
  absl::StatusOr<Call> Enter(absl::string_view action) const;

  absl::Status SumOneShot(const Call& call, float* values, size_t count);
  absl::Status SumTwoShots(const Call& call, float* values, size_t count);

  // Opens the next phase: afterwards this rank may write its slot.
  absl::Status BeginPhase(const Call& call);
  void Publish();
  absl::Status AwaitPeers(const Call& call);

  template <typename T>
  T* Slot(int rank) const {
    return reinterpret_cast<T*>(member_->memory().slot(rank, phase_));
  }
  absl::Status AwaitArrival(const Call& call, uint64_t phase);

  const std::shared_ptr<GroupMember> member_;
  const std::chrono::nanoseconds call_timeout_;
  const size_t slot_bytes_;
  uint64_t phase_ = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_SHM_COMMUNICATOR_H_
