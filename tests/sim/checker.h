// What must be true of the whole cluster, seen from outside: what the workers hold against what the core believes.
#ifndef TANDEM_TESTS_SIM_CHECKER_H_
#define TANDEM_TESTS_SIM_CHECKER_H_

#include <memory>
#include <string>
#include <vector>

#include "scheduler/core/core.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_worker.h"

namespace tandem::sim {

// Holds at any instant. Empty, or the first thing that does not.
std::string CheckAlways(const core::Core& core, const std::vector<std::shared_ptr<SimWorker>>& workers);

// Work conservation: no group that admits requests has nothing to do while one of its model waits. Empty, or which. May
// be so for an instant. `liars`: some worker may have claimed what was not so.
std::string CheckBusy(const core::Core& core, bool liars);

// Holds once the faults have stopped for long enough. Empty, or what is still not right.
std::string CheckQuiet(const core::Core& core, const std::vector<std::shared_ptr<SimWorker>>& workers,
                       const std::vector<std::shared_ptr<SimClient>>& clients);

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_CHECKER_H_
