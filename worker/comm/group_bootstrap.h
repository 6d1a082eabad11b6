// How the ranks of one host become a group. Rank 0 opens its Rendezvous for the group, the others knock there and prove
// that they belong (same user, secret, group, epoch, rank, size); when all are in, rank 0 makes the shared memory and
// hands it out by descriptor together with a pidfd of every rank. See bootstrap_wire.h for the packets.
#ifndef TANDEM_WORKER_COMM_GROUP_BOOTSTRAP_H_
#define TANDEM_WORKER_COMM_GROUP_BOOTSTRAP_H_

#include <atomic>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/group_channel.h"
#include "worker/comm/group_identity.h"
#include "worker/comm/group_memory.h"
#include "worker/comm/rendezvous.h"

namespace tandem::worker {

struct JoinOptions {
  GroupShape shape;  // Rank 0's counts for all; `ranks` is ignored.
  absl::Duration call_timeout = absl::Seconds(30);
  const std::atomic<bool>* cancelled = nullptr;  // Set it, and JoinGroup() returns within about 20 ms.
};

// Blocks until the whole group is there, at most `identity.deadline`. Any number of groups may form at once.
//   INVALID_ARGUMENT     a field of `identity` is out of range
//   PERMISSION_DENIED    wrong secret or user
//   FAILED_PRECONDITION  the epoch is over, or ranks disagree about the group
//   ALREADY_EXISTS       this rank is there already
//   DEADLINE_EXCEEDED    naming the ranks that did not come
//   UNAVAILABLE          a rank exited while the group was forming
//   CANCELLED
// After an error nothing is left of the attempt on this rank, and a new one may follow.
absl::StatusOr<std::unique_ptr<GroupChannel>> JoinGroup(Rendezvous& rendezvous, const GroupIdentity& identity,
                                                        const JoinOptions& options = {});

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_GROUP_BOOTSTRAP_H_
