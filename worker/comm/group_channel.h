// A GroupChannel is all that ties one rank to its group: shared memory, pidfds of the peers, the communicator and the
// queue of plans over them. JoinGroup() makes it; its end releases everything, and the peers see nothing of that until
// they wait for this rank. A rank that leaves for a reason says so first: Abort().
//
// The parts belong to the engine thread, as their headers say. Abort(), Health() and plans()->WakeSelf() are for any
// thread; the owner keeps the channel alive while such a call runs.
#ifndef TANDEM_WORKER_COMM_GROUP_CHANNEL_H_
#define TANDEM_WORKER_COMM_GROUP_CHANNEL_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/group_identity.h"
#include "worker/comm/group_member.h"
#include "worker/comm/plan_queue.h"

namespace tandem::worker {

class GroupChannel {
 public:
  // A group of one: nothing is shared.
  explicit GroupChannel(GroupIdentity identity);

  // `call_timeout` bounds each collective, and Publish() on a full ring. REQUIRES: identity.size >= 2.
  GroupChannel(GroupIdentity identity, std::shared_ptr<GroupMember> member, absl::Duration call_timeout);

  // Parts of another make; `plans` is null in a group of one.
  GroupChannel(GroupIdentity identity, std::unique_ptr<PlanQueue> plans, std::unique_ptr<Communicator> communicator);

  const GroupIdentity& identity() const { return identity_; }
  Communicator& communicator() { return *communicator_; }
  PlanQueue* plans() { return plans_.get(); }  // Null in a group of one, which has nobody to tell.

  absl::Status Health() const { return communicator_->Health(); }
  void Abort(absl::string_view reason) { communicator_->Abort(reason); }

 private:
  const GroupIdentity identity_;
  const std::unique_ptr<PlanQueue> plans_;
  const std::unique_ptr<Communicator> communicator_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_GROUP_CHANNEL_H_
