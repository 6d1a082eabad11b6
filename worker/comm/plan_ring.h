// A PlanRing is the PlanQueue of a group whose ranks are processes of one host.
//
// It is a stretch of shared memory that rank 0 writes round and round. `ring_written` counts the bytes ever
// written, each reader's `ring_read` the bytes it has taken; their difference is what the reader still has before it. A
// message is a header (step, length, checksum) and its bytes, rounded up to whole headers, so a header never wraps
// while the bytes may.
//
// A reader that sees another step than the next, a wrong checksum or an impossible length aborts the group.
#ifndef TANDEM_WORKER_COMM_PLAN_RING_H_
#define TANDEM_WORKER_COMM_PLAN_RING_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/group_member.h"
#include "worker/comm/plan_queue.h"

namespace tandem::worker {

class PlanRing final : public PlanQueue {
 public:
  // `publish_timeout` bounds how long Publish() waits for the slowest reader.
  PlanRing(std::shared_ptr<GroupMember> member, absl::Duration publish_timeout);

  // Blocks while the slowest reader is a full ring behind.
  absl::Status Publish(uint64_t step, absl::string_view bytes) override;
  absl::StatusOr<Received> Next(absl::Duration timeout) override;
  void WakeSelf() override;

  uint64_t max_message_bytes() const;

 private:
  struct Header;

  uint64_t ReadBy(int rank) const { return member_->memory().rank(rank).ring_read.load(std::memory_order_seq_cst); }
  void CopyIn(uint64_t position, const void* from, uint64_t bytes);
  void CopyOut(uint64_t position, void* to, uint64_t bytes) const;
  absl::StatusOr<Received> Take(uint64_t available);

  const std::shared_ptr<GroupMember> member_;
  const std::chrono::nanoseconds publish_timeout_;
  const uint64_t ring_bytes_;
  std::atomic<bool> woken_{false};

  // Of the engine thread.
  uint64_t position_ = 0;  // Bytes written or taken by this rank. The shared counter is for the others to see.
  uint64_t next_step_ = 1;
  std::vector<char> message_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_PLAN_RING_H_
