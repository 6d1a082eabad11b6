// The KV account of a group: what is promised to its requests, against what its engine has.
//
// A booking is made when a request is assigned (prompt, known output, and an estimate of what will come, in whole
// blocks) and released when rank 0 says that the attempt ended, or when the group itself is gone. Never by age: what an
// engine still computes is still there. Every change keeps the model's indexes of admitting groups in order.
#ifndef TANDEM_SCHEDULER_CORE_BOOKING_H_
#define TANDEM_SCHEDULER_CORE_BOOKING_H_

#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// What the request is expected to take at its end.
Tokens EstimateNeed(const ClusterState& state, const Request& request);
// The same in whole blocks of the group. A group without requests gives all it has rather than nothing.
Tokens BookingFor(const Group& group, Tokens need);

void Book(ClusterState& state, Group& group, Request& request, Tokens tokens);
// Rank 0 began to compute it, or put it back.
void MarkStarted(Group& group, Request& request);
void MarkComputed(Group& group, Request& request);
void MarkPreempted(Group& group, Request& request);
void Release(ClusterState& state, Request& request);

// Rank 0's own count of free blocks: what is used beyond the bookings of started requests is lost to newcomers.
void Correct(ClusterState& state, Group& group, int32_t free_blocks);

// Puts the group where it belongs in its model's indexes, or takes it out: after any change of its state, its account,
// or the presence of its members. True when it admits requests now.
bool Reindex(ClusterState& state, Group& group);
// All its devices are attached and none is suspect. Reindex remembers it in the group, so that requests need not look.
bool IsReachable(const ClusterState& state, const Group& group);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_BOOKING_H_
