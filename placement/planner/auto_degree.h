// `tensor_parallel: auto`: which degree, and how many replicas of it, make the most of a number of equal devices.
//
// A model that fits one card is served fastest, in all, by a replica on each; a higher degree answers a single request
// sooner and has more room for KV, which is worth more than speed where the weights leave little of it. So both are
// predicted: output tokens per second at the batch that KV memory allows, and the time of a token when nothing else
// runs. Pure.
#ifndef TANDEM_PLACEMENT_PLANNER_AUTO_DEGREE_H_
#define TANDEM_PLACEMENT_PLANNER_AUTO_DEGREE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "placement/planner/bus_bandwidth.h"
#include "placement/planner/demand.h"
#include "placement/topology/chip.h"

namespace tandem::placement {

struct Option {
  int shape = 0;  // index into the model's shapes
  int degree = 1;
  int replicas = 1;
  int64_t tokens_per_s = 0;        // output tokens, all replicas, under full load
  int64_t ns_per_token_alone = 0;  // of a request that runs alone
  int64_t kv_tokens = 0;           // of one replica
  int64_t sequences = 0;           // that one replica runs together under full load
};

// Devices of one kind.
struct EqualDevices {
  const Chip* chip = nullptr;
  int count = 0;
  int64_t usable_bytes = 0;  // of each, the model's share of it applied
  int64_t memory_mbps = 0;   // measured; 0: by the data sheet
  // The ring of a group of each of the model's degrees, shape by shape; those of one rank are not looked at.
  std::vector<Ring> rings;
};

// What an engine runs together at most, however much KV there is.
inline constexpr int kMostSequences = 256;

// Every possible shape that fits `devices`, each with the most replicas first, down to one; in the order of the shapes.
// Empty: nothing fits, not even one sequence of the workload.
std::vector<Option> PredictOptions(const ModelDemand& model, const EqualDevices& devices,
                                   int most_sequences = kMostSequences);

// Index of the best option for `goal`, -1 if there is none. For latency, options within a twentieth of the fastest are
// as good, and the one with the most throughput is taken. Ties go to the lower degree.
int ChooseOption(absl::Span<const Option> options, Goal goal);

// "2 replicas of TP=1: 4,120 tok/s predicted, 1.90x one of TP=1; 1 replica of TP=2: 3,483 tok/s", with the best of each
// other degree.
std::string ExplainChoice(absl::Span<const Option> options, int chosen, Goal goal);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_AUTO_DEGREE_H_
