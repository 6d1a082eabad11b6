// Many seeds, in several processes, with one table at the end.
#ifndef TANDEM_TESTS_SIM_CAMPAIGN_H_
#define TANDEM_TESTS_SIM_CAMPAIGN_H_

#include <cstdint>

#include "tests/sim/simulation.h"

namespace tandem::sim {

struct Campaign {
  uint64_t from = 1, to = 0;
  int jobs = 1;
  bool check_determinism = false;
  bool until_broken = false;     // The first seed that fails ends it.
  bool demand_coverage = false;  // A case that no seed met is a failure, too.
};

// Prints the table, and for each seed that failed what broke and the command that shows it. A process that dies (a
// CHECK of our own) fails its seed, and the rest goes on. Returns the exit status.
int RunCampaign(const Campaign& campaign, const RunOptions& options);

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_CAMPAIGN_H_
