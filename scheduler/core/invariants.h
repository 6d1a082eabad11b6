// What must hold between any two steps, whatever happened: sums agree, nothing is in two places or in none, nothing is
// promised twice. Tests and the simulator call it after every step; it reads everything, so the service does not.
#ifndef TANDEM_SCHEDULER_CORE_INVARIANTS_H_
#define TANDEM_SCHEDULER_CORE_INVARIANTS_H_

#include <string>
#include <vector>

#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// One sentence per violation; empty when all is well.
std::vector<std::string> CheckInvariants(const ClusterState& state);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_INVARIANTS_H_
