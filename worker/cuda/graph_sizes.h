// Which batch sizes of decoding are captured as CUDA graphs, and which graph a step takes.
//
// A launch costs the host about as much as a small kernel costs the device, so a decode step is captured once and
// replayed as a whole. A graph has one size; a step takes the next larger one, and its spare rows compute nothing that
// anybody reads. Both functions depend on their arguments alone: every rank of a group comes to the same graph by
// itself, which a captured collective requires.
#ifndef TANDEM_WORKER_CUDA_GRAPH_SIZES_H_
#define TANDEM_WORKER_CUDA_GRAPH_SIZES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

// No larger graph is captured: at this size a step is long enough to hide its launches.
inline constexpr int32_t kLargestGraph = 256;

// Ascending: 1, 2, 4, 8, then every 8 to 64, every 16 to 128, every 32 to kLargestGraph; `max_sequences` itself is the
// last where it is not larger than that. So less than half of a step is spare, and less than a third from 17 rows on.
std::vector<int32_t> GraphSizes(int32_t max_sequences);

// The smallest of `sizes` (ascending) that holds `sequences`; 0: none does.
int32_t GraphSizeFor(absl::Span<const int32_t> sizes, int32_t sequences);

// True where every sequence of the step has one token: what a decode graph computes.
bool IsDecodeStep(const StepInput& step);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_GRAPH_SIZES_H_
