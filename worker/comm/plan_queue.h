// A PlanQueue carries step plans from rank 0 to every other rank of its group, in order, each exactly once.
//
// Steps are numbered 1, 2, 3 without a gap. A reader that sees another step cannot know what its peers will do next, so
// it aborts the group.
//
// PlanRing is the one between processes; a simulated group has one of its own. Publish() belongs to rank 0's engine
// thread, Next() to the engine thread of the others. WakeSelf() is for any thread.
#ifndef TANDEM_WORKER_COMM_PLAN_QUEUE_H_
#define TANDEM_WORKER_COMM_PLAN_QUEUE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tandem::worker {

class PlanQueue {
 public:
  virtual ~PlanQueue() = default;

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

  // Rank 0. May block while a reader is far behind. OK means that every reader will find the message.
  // INVALID_ARGUMENT (too large) and FAILED_PRECONDITION (not the next step) publish nothing and harm nothing; any
  // other error is the group's end.
  virtual absl::Status Publish(uint64_t step, absl::string_view bytes) = 0;

  // The others. A wake goes before messages, so that a stream of plans cannot starve local commands. Any error is the
  // group's end: DATA_LOSS or FAILED_PRECONDITION for a message that must not be, UNAVAILABLE for a dead peer, ABORTED
  // after an abort.
  virtual absl::StatusOr<Received> Next(absl::Duration timeout) = 0;

  // Makes Next() return kWoken, now or when it is called next. Wakes do not add up.
  virtual void WakeSelf() = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_PLAN_QUEUE_H_
