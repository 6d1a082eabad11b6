// How long a model's collectives take on a ring: NCCL's latency and bandwidth model (src/graph/tuning.cc), ring
// algorithm, the best of its three protocols.
//
//   t = base + 2(n-1) * hop + bytes * 2(n-1) / (n * efficiency * bandwidth)
//
// Good for ranking sets of devices; absolute times are a few microseconds low for small messages.
#ifndef TANDEM_PLACEMENT_PLANNER_COLLECTIVE_TIME_H_
#define TANDEM_PLACEMENT_PLANNER_COLLECTIVE_TIME_H_

#include <cstdint>

#include "placement/planner/bus_bandwidth.h"

namespace tandem::placement {

// Measured against nccl-tests: large messages reach about this much of what the links could.
inline constexpr int kEfficiencyPermille = 850;

// Nanoseconds of one all-reduce of `bytes` over `ranks` devices whose best ring is `ring`. 0 for one rank. `hosts`:
// over how many hosts it goes.
int64_t AllReduceNs(const Ring& ring, int ranks, int64_t bytes, int hosts = 1,
                    int efficiency_permille = kEfficiencyPermille);

// What a model sends: the mix of small messages (decode) and large ones (prefill) of a request stream.
struct Workload {
  int hidden = 4096;
  int layers = 32;
  int element_bytes = 2;
  // A request of the mix: prompt and output tokens, and how many decode together. Medians of public conversation traces
  // (shapes of the same order for code); a wrong guess shifts the weight between latency and bandwidth.
  int prompt_tokens = 1024;
  int output_tokens = 256;
  int decode_batch = 16;
  int prefill_chunk = 2048;
  bool operator==(const Workload&) const = default;
};

// Nanoseconds of collectives per output token: two all-reduces a layer and one for the embedding, in the decode step
// that makes it and in its share of the prompt's prefill.
int64_t CommunicationNsPerToken(const Ring& ring, int ranks, const Workload& workload, int hosts = 1);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_COLLECTIVE_TIME_H_
