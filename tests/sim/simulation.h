// One run: a cluster, a storm in which anything may fail, and the calm after it in which everything must come right.
//
// Safety phase: what the script says happens; after every step of the core its own invariants hold, and what clients
// and workers see agrees. Liveness phase: nothing fails any more, frozen workers thaw, cut networks heal, drains are
// undone. Within bounded simulated time every request has ended, every drain is finished, wanted replicas serve where
// there is room, and nobody holds anything that nobody knows of.
//
// Of the invariants of the research notes (reliability.md, 9) these are checked here:
//
//    1  a device in at most one group, members distinct          core's own; by what the workers hold: Checker
//    2  memory and bookings within the budget, released once     core's own
//    3  a group serves only where every rank acknowledged        core's own; Checker in the calm
//    4  no command of a lower epoch takes effect                 SimWorker (Welcome), Checker (epochs held)
//    5  leader epochs rise                                       Simulation
//    6  request states move forward, nothing after the end       SimScheduler::Judge, core's own
//    7  one attempt appends, index = previous + 1                SimClient, RequestStream
//    8  delivered <= max_tokens, stop evaluated once             SimClient
//    9  attempts are bounded, deadlines are not extended         core's own; SimClient
//   10  cancelled requests free what they held                   Checker in the calm
//   11  nothing new on drained or cordoned devices               SimScheduler::Judge
//   12  each drain ends                                          Checker in the calm
//   13  unknown devices are not placed on                        SimScheduler::Judge
//   14  queues are bounded                                       core's own
//   17  no idle group while work waits                           Checker in the calm
//   18  every wait has an end                                    core's own
//   20  convergence when the faults stop                         Checker in the calm
//   21  no communicator of an old epoch                          Checker, MeetingPlace
//   24  same seed, same trace; time never goes back              World, --check-determinism
//
// Not yet: 15, 16 (fairness), 19 (replay: core_random_test and the journal's own tests), 22, 23 (tenants, accounting).
#ifndef TANDEM_TESTS_SIM_SIMULATION_H_
#define TANDEM_TESTS_SIM_SIMULATION_H_

#include <cstdint>
#include <map>
#include <string>

#include "scheduler/tokenizer/tokenizer.h"
#include "tests/sim/script.h"

namespace tandem::sim {

struct Result {
  uint64_t seed = 0;
  std::string failure;  // Empty: all held.
  uint64_t events = 0;
  uint64_t hash = 0;
  int64_t simulated_us = 0;
  std::map<std::string, int64_t> counts;
};

struct RunOptions {
  bool print = false;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
};

Result RunScript(const Script& script, const RunOptions& options);

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SIMULATION_H_
