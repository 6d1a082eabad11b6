#include "worker/comm/group_channel.h"

#include <utility>

#include "worker/comm/plan_ring.h"
#include "worker/comm/shm_communicator.h"
#include "worker/comm/solo_communicator.h"

namespace tandem::worker {

GroupChannel::GroupChannel(GroupIdentity identity)
    : identity_(std::move(identity)), communicator_(std::make_unique<SoloCommunicator>()) {}

GroupChannel::GroupChannel(GroupIdentity identity, std::shared_ptr<GroupMember> member, absl::Duration call_timeout)
    : identity_(std::move(identity)),
      plans_(std::make_unique<PlanRing>(member, call_timeout)),
      communicator_(std::make_unique<ShmCommunicator>(member, call_timeout)) {}

GroupChannel::GroupChannel(GroupIdentity identity, std::unique_ptr<PlanQueue> plans,
                           std::unique_ptr<Communicator> communicator)
    : identity_(std::move(identity)), plans_(std::move(plans)), communicator_(std::move(communicator)) {}

}  // namespace tandem::worker
