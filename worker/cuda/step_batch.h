// One step as the flat arrays that kernels read.
//
// Sequences that decode (one token) stand first, then those that prefill, each kind in the step's order: each kind has
// its own attention kernel, and both see a stretch of the same arrays. Rows of logits keep the step's order.
//
// A step that a graph computes is padded to the graph's size with rows of no sequence: token and slot -1, context 0.
#ifndef TANDEM_WORKER_CUDA_STEP_BATCH_H_
#define TANDEM_WORKER_CUDA_STEP_BATCH_H_

#include <cstdint>

#include "worker/cuda/device_memory.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

struct StepLimits {
  int32_t tokens = 0;     // of one step
  int32_t sequences = 0;  // of one step
  int32_t positions = 0;  // of one sequence
  int32_t table_stride() const { return (positions + kBlockTokens - 1) / kBlockTokens; }
};

// The arrays, in page-locked memory or in that of the device: laid out alike, so that one copy moves all of them.
struct StepArrays {
  int32_t* tokens = nullptr;       // [tokens]
  int32_t* positions = nullptr;    // [tokens]
  int32_t* slots = nullptr;        // [tokens]: block * 16 + place in the block
  int32_t* contexts = nullptr;     // [sequences]: of those that decode, their tokens with the new one
  int32_t* token_begin = nullptr;  // [sequences + 1]: of those that prefill, and the end of the last
  int32_t* start = nullptr;        // [sequences]: of those that prefill, the position of the first token
  int32_t* rows = nullptr;         // [sequences]: the token whose logits make row r
  int32_t* best = nullptr;         // [sequences]: of row r, LogitsWanted::best
  float* temperature = nullptr;    // [sequences]: of row r, LogitsWanted::temperature
};

StepArrays TakeStepArrays(const StepLimits& limits, MemoryCursor* cursor);
int64_t StepArrayBytes(const StepLimits& limits);

// What of the arrays is used: all that a launch depends on.
struct StepShape {
  int64_t tokens = 0;
  int32_t decodes = 0;   // sequences of one token, pad rows included
  int32_t prefills = 0;  // sequences of more
  int32_t longest_prefill = 0;
  int32_t rows = 0;   // of logits, pad rows included
  bool best = false;  // the best tokens of rows are picked

  friend bool operator==(const StepShape&, const StepShape&) = default;
};

struct FilledStep {
  StepShape shape;
  int32_t sampled = 0;       // rows of logits that somebody wants: the first ones
  int32_t most_best = 0;     // the most that is wanted of one row
  bool whole_rows = false;   // some are wanted whole, or may be
  int32_t table_blocks = 0;  // of the longest table
  int32_t table_rows = 0;
};

// Fills `arrays` and `tables` ([sequences][limits.table_stride()], rows in the order of the kinds; what lies beyond a
// sequence's blocks keeps its value). `graph_size`: 0, or the size to pad a decode step to.
// REQUIRES: the step has passed CheckStep with the same limits; with a graph_size, every sequence has one token and
// there are no more than graph_size.
FilledStep FillStep(const StepInput& step, int32_t graph_size, const StepLimits& limits, const StepArrays& arrays,
                    int32_t* tables);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_STEP_BATCH_H_
