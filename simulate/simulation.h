// A trace through a fleet in virtual time, by one policy.
//
//   trace --arrival--> Router --one hop--> SimGroup: batcher, KV blocks, prefix cache; the step model's time
//                        ^                    |
//                        +-----one hop--------+  started, tokens, preempted, ended, cache changed
//
// A request that no policy could serve (longer than the context) is refused before the router. All else is the router's
// and the engines' doing. Equal arguments give equal outcomes, but for what decisions took, which is real time.
#ifndef TANDEM_SIMULATE_SIMULATION_H_
#define TANDEM_SIMULATE_SIMULATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/trace/trace.h"
#include "placement/topology/topology.h"
#include "simulate/served_model.h"

namespace tandem::simulate {

struct SimulationOptions {
  std::string policy = "default";
  double load_factor = 1;  // of the trace's rate; times are divided by it
  uint64_t seed = 1;
  double memory_utilization = 0.9;
  int replicas = 0;  // 0: as many as there is room for
};

// Names of policies, `default` first.
absl::Span<const absl::string_view> Policies();

struct SimOutcome {
  bool completed = false;
  std::string reason;    // where it was refused
  int64_t due_us = 0;    // since the trace's start, as all times
  int64_t first_us = 0;  // first token at the router
  int64_t last_us = 0;   // its last token there, or the refusal
  uint32_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  uint32_t preemptions = 0;
  int32_t group = -1;  // that ended it
};

struct SimResult {
  std::vector<SimOutcome> outcomes;   // as the trace has them
  std::vector<int64_t> decisions_ns;  // of real time, of each call that decided
  int groups = 0, tensor_parallel = 1;
  int64_t kv_tokens = 0;  // of one group
  uint64_t steps = 0;
  double simulated_seconds = 0;
};

// InvalidArgument for what cannot be asked, FailedPrecondition where the model has no room on the cluster.
// REQUIRES: `trace` is in order of arrival and not empty.
absl::StatusOr<SimResult> Simulate(const std::vector<TraceRequest>& trace, const placement::Topology& topology,
                                   const ServedModel& model, const SimulationOptions& options);

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_SIMULATION_H_
