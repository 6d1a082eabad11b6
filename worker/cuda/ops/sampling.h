// What a rank says about its part of the vocabulary: the best token, or the best few, of each row of logits.
//
// Ranks' answers are merged on the host (MergeCandidates): greedy and top-k sampling then move a few bytes and not the
// logits. Order: larger logit first, and among equals the lower token id, on one rank as over many, so the result does
// not depend on how the vocabulary was split. A NaN counts as less than every number.
#ifndef TANDEM_WORKER_CUDA_OPS_SAMPLING_H_
#define TANDEM_WORKER_CUDA_OPS_SAMPLING_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

struct Candidate {
  float logit = 0;
  int32_t token = -1;  // below zero: none
};

inline constexpr int32_t kMaxTopK = 64;

struct TopKArgs {
  const void* logits = nullptr;  // [rows][stride] of `type`, any of the three
  int64_t stride = 0;            // elements
  model::DType type = model::DType::kFloat32;
  int32_t rows = 0;
  int32_t columns = 0;             // of this rank, pad columns not counted
  int32_t first_token = 0;         // the token of column 0
  int32_t k = 1;                   // 1 to kMaxTopK
  Candidate* output = nullptr;     // [rows][k], best first; filled up with token -1 where columns < k
  Candidate* workspace = nullptr;  // TopKWorkspaceBytes
};

int64_t TopKWorkspaceBytes(int32_t rows, int32_t columns, int32_t k);

absl::Status TopK(const TopKArgs& args, cudaStream_t stream);

// The best k of several ranks' candidates of one row, best first. Entries with token -1 are passed over.
std::vector<Candidate> MergeCandidates(absl::Span<const Candidate> candidates, int32_t k);

// output[r][c] = float(input[r][c]). For logits on their way to the host, and for the parts that ranks have gathered.
struct WidenArgs {
  const void* input = nullptr;  // [rows][input_stride] of `type`
  int64_t input_stride = 0;
  model::DType type = model::DType::kBFloat16;
  float* output = nullptr;  // [rows][output_stride]
  int64_t output_stride = 0;
  int64_t rows = 0;
  int64_t columns = 0;
};

absl::Status Widen(const WidenArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_SAMPLING_H_
