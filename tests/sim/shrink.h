// Cuts a failing script down to few happenings that still break the same invariant.
#ifndef TANDEM_TESTS_SIM_SHRINK_H_
#define TANDEM_TESTS_SIM_SHRINK_H_

#include <string>

#include "tests/sim/script.h"
#include "tests/sim/simulation.h"

namespace tandem::sim {

// Delta debugging: leaves out halves, then quarters, and so on down to single happenings, as long as the run fails with
// a sentence of the same shape (numbers aside). REQUIRES: `script` fails with `failure`.
Script ShrinkScript(const Script& script, const std::string& failure, const RunOptions& options);

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SHRINK_H_
