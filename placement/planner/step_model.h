// How long one step of an engine takes: a roofline of memory and arithmetic, what launches and the host cost besides,
// and the collectives of the ring.
//
//   step = max((weights + KV read) / memory rate, arithmetic / rate of arithmetic) / ranks
//          + layers * (launches + two all-reduces) + host
//
// The efficiencies are medians of profiles of A40, A100 and H100. Expect a fifth either way; what it is for is the
// order of degrees and batches. Pure; integer nanoseconds.
#ifndef TANDEM_PLACEMENT_PLANNER_STEP_MODEL_H_
#define TANDEM_PLACEMENT_PLANNER_STEP_MODEL_H_

#include <cstdint>

#include "placement/planner/bus_bandwidth.h"
#include "placement/planner/collective_time.h"
#include "placement/topology/chip.h"

namespace tandem::placement {

// The whole model, whatever the degree.
struct ModelWork {
  int layers = 0;
  int hidden = 0;
  int element_bytes = 2;           // of activations
  int64_t parameters = 0;          // that a token is multiplied with: without the embedding table
  int64_t head_parameters = 0;     // of these, the output layer's: only tokens that are sampled from meet them
  int64_t weight_bytes = 0;        // of all of them
  int64_t kv_bytes_per_token = 0;  // all layers
};

// One group: equal chips and the ring between them.
struct StepGroup {
  const Chip* chip = nullptr;
  int ranks = 1;
  const Ring* ring = nullptr;  // may be null for one rank
  int hosts = 1;
  int64_t memory_mbps = 0;  // measured, of one device and already what it reaches; 0: by the data sheet
};

// What one step computes: sequences that get one token each, and a piece of a prompt, or of several.
struct StepShape {
  int64_t decodes = 0;
  int64_t context = 0;  // tokens that each of them has in the KV cache
  int64_t prefill_tokens = 0;
  int64_t prefill_context = 0;  // tokens of the same prompt that were computed before
  int64_t prompts = 1;          // of several, the two are sums, and they count as pieces of one size
};

int64_t StepNs(const ModelWork& model, const StepGroup& group, const StepShape& step);

// A prompt of the workload, chunk by chunk.
int64_t PrefillNs(const ModelWork& model, const StepGroup& group, const Workload& workload);

// What a decode step of `sequences` of the workload takes with its share of their prefill: each of them passes its
// prompt through once, alone, and then has a token of every step.
int64_t ServingStepNs(const ModelWork& model, const StepGroup& group, const Workload& workload, int64_t sequences);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_STEP_MODEL_H_
