// What a drain says while it is under way: what it waits for, in one sentence.
#ifndef TANDEM_SCHEDULER_CORE_DRAIN_REPORT_H_
#define TANDEM_SCHEDULER_CORE_DRAIN_REPORT_H_

#include <string>

#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// "draining 3 of 7 requests, 41 s left, replacement groups/1.12 loading". Without the times it changes only when there
// is news.
std::string DescribeDrain(const ClusterState& state, const Drain& drain, bool with_times);

// What is drained: the devices, or the group.
std::string TargetOf(const ClusterState& state, const Drain& drain);
// How it ended: "drained nodes/a/devices/0". `target`: as it was while its groups were there.
std::string DescribeEnd(const ClusterState& state, const Drain& drain, const std::string& target);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_DRAIN_REPORT_H_
