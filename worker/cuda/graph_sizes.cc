#include "worker/cuda/graph_sizes.h"

#include <algorithm>

namespace tandem::worker::cuda {

std::vector<int32_t> GraphSizes(int32_t max_sequences) {
  const int32_t last = std::min(max_sequences, kLargestGraph);
  std::vector<int32_t> sizes;
  for (int32_t size = 1; size < last;) {
    sizes.push_back(size);
    if (size < 8) {
      size *= 2;
    } else if (size < 64) {
      size += 8;
    } else {
      size += size < 128 ? 16 : 32;
    }
  }
  if (last >= 1) sizes.push_back(last);
  return sizes;
}

int32_t GraphSizeFor(absl::Span<const int32_t> sizes, int32_t sequences) {
  const auto found = std::lower_bound(sizes.begin(), sizes.end(), sequences);
  return found == sizes.end() ? 0 : *found;
}

bool IsDecodeStep(const StepInput& step) {
  return std::all_of(step.sequences.begin(), step.sequences.end(),
                     [](const SequenceInput& sequence) { return sequence.tokens.size() == 1; });
}

}  // namespace tandem::worker::cuda
