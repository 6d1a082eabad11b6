// A PlanRing carries step plans from rank 0 to every other rank of its host, in order, each exactly once.
//
// The ring is a stretch of shared memory that rank 0 writes round and round. `ring_written` counts the bytes ever
// written, each reader's `ring_read` the bytes it has taken; their difference is what the reader still has before it. A
// message is a header (step, length, checksum) and its bytes, rounded up to whole headers, so a header never wraps
// while the bytes may.
//
// Steps are numbered 1, 2, 3 without a gap. A reader that sees another step, a wrong checksum or an impossible length
// cannot know what its peers will do next, so it aborts the group.
//
// Publish() belongs to rank 0's engine thread, Next() to the engine thread of the others. WakeSelf() is for any thread.
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

namespace tandem::worker {

class PlanRing {
 public:
  // What Next() came back with.
  struct Received {
    enum Kind {
      kMessage,   // `step` and `bytes` are set.
      kWoken,     // WakeSelf() was called since the last kWoken.
      kTimedOut,  // Neither happened within the timeout.
    };
    Kind kind = kTimedOut;
    uint64_t step = 0;
    absl::string_view bytes;  // Valid until the next call of Next().
  };

  // `publish_timeout` bounds how long Publish() waits for the slowest reader.
  PlanRing(std::shared_ptr<GroupMember> member, absl::Duration publish_timeout);

  // Rank 0. Blocks while the slowest reader is a full ring behind. OK means that every reader will find the message.
  // INVALID_ARGUMENT (too large) and FAILED_PRECONDITION (not the next step) publish nothing and harm nothing; any
  // other error is the group's end.
  absl::Status Publish(uint64_t step, absl::string_view bytes);

  // The others. A wake goes before messages, so that a stream of plans cannot starve local commands. Any error is the
  // group's end: DATA_LOSS or FAILED_PRECONDITION for a message that must not be, otherwise as GroupMember::Wait().
  absl::StatusOr<Received> Next(absl::Duration timeout);

  // Makes Next() return kWoken, now or when it is called next. Wakes do not add up.
  void WakeSelf();

  uint64_t max_message_bytes() const;

  // The step that must come next.
  uint64_t next_step() const { return next_step_; }

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
