// The core alone at the size of a large installation: how long one simulated hour takes, and what an event costs.
//
// Workers are coarse here: a group is ready when its load time has passed, a request takes a drawn time and then ends;
// heartbeats come from every device twice a second. There is no engine, no network and no fault, so every microsecond
// of the run but the simulator's own (a heap of due events) is the core's. One event in sixteen is timed by itself, in
// the core alone; the two fleets that are compared run in turn, in short rounds, and the median of the rounds counts.
#ifndef TANDEM_TESTS_SIM_SCALE_H_
#define TANDEM_TESTS_SIM_SCALE_H_

#include <cstdint>

namespace tandem::sim {

struct Scale {
  int devices = 10000;
  int models = 20;
  int64_t requests_per_second = 1000;
  int64_t seconds = 3600;
  int64_t heartbeat_ms = 500;
  bool baseline = true;  // Also runs 100 devices at a hundredth of the load, and compares the cost of an event.
};

// Prints the figures; returns the exit status: 1 where an invariant broke or requests were lost.
int RunScale(const Scale& scale);

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SCALE_H_
