// What rank 0 says of its cache: which beginnings of prompts it came to hold, and let go of. A hint for `assignment`.
// Of a group that is to be adopted it is kept until that is decided.
#ifndef TANDEM_SCHEDULER_CORE_CACHE_REPORT_H_
#define TANDEM_SCHEDULER_CORE_CACHE_REPORT_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

void Handle(ClusterState& state, const CacheChanged& event, Actions& out);

// The group is adopted now.
void TakeCache(ClusterState& state, const Group& group, const Adoption& adoption);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_CACHE_REPORT_H_
