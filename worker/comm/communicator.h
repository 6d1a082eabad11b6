// A Communicator carries tensors between the ranks of one group.
//
// Every rank issues the same calls in the same order with the same sizes. Nothing here checks that. A rank that skips a
// call leaves its peers waiting until the group's deadline, so the engine runs one StepPlan at a time and publishes it
// first.
//
// A call may return before its work is done (a stream of a GPU); OK means "accepted", and the shared-memory
// implementation has finished when it returns. A failure found later comes out of the next call, or of Health(). After
// any error the communicator is spent: Abort() it, and form a new group under a new epoch.
//
// Sums are taken in fp32 in rank order 0, 1, .., n-1 for every element, so all ranks hold the same bits, and the same
// bits again in the next run.
//
// Belongs to the engine thread. Abort() alone may be called from elsewhere.
#ifndef TANDEM_WORKER_COMM_COMMUNICATOR_H_
#define TANDEM_WORKER_COMM_COMMUNICATOR_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem::worker {

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Replaces `values` on every rank by the sum over all ranks.
  // REQUIRES: the count is equal on all ranks. On error the contents of `values` are unspecified.
  virtual absl::Status AllReduceSum(absl::Span<float> values) = 0;

  // Rank 0 receives the concatenation of every rank's `send`, in rank order, in `receive`; elsewhere `receive` is
  // empty. REQUIRES: send.size() is equal on all ranks; on rank 0 receive.size() == size() * send.size().
  virtual absl::Status Gather(absl::Span<const float> send, absl::Span<float> receive) = 0;

  // Every rank receives the `bytes` of every rank, in rank order. For small facts (block counts, checksums).
  // REQUIRES: as Gather, on every rank.
  virtual absl::Status AllGather(absl::Span<const uint8_t> send, absl::Span<uint8_t> receive) = 0;

  virtual absl::Status Barrier() = 0;

  // OK, or why this communicator is spent. Cheap enough for every step.
  virtual absl::Status Health() const = 0;

  // Ends every call in flight, here and at the peers, with an error. Idempotent, from any thread.
  virtual void Abort(absl::string_view reason) = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_COMMUNICATOR_H_
