// What a rank says about its part of a row of logits, so that neither the row nor its parts have to travel: the best
// few tokens, sums over all of them, and whether all are numbers.
//
// Ranks' reports are merged on the host (MergeReports): sampling then moves at most half a KiB a row and not the
// logits. Order: larger logit first, and among equals the lower token id, on one rank as over many, so which tokens are
// found does not depend on how the vocabulary was split; sums do, in their last bits.
#ifndef TANDEM_WORKER_CUDA_OPS_SAMPLING_H_
#define TANDEM_WORKER_CUDA_OPS_SAMPLING_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/model/dtype.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

// Of one row, by one rank. A whole number of floats, since DeviceCommunicator carries those.
struct RowReport {
  double sum = 0;           // of exp(logit - highest), over the rank's part; 0 where no sums are wanted
  double tempered_sum = 0;  // of exp((logit - highest) / temperature)
  float highest = -std::numeric_limits<float>::infinity();
  int32_t bad_token = -1;  // the lowest whose logit is no finite number
  float bad_logit = 0;
  int32_t count = 0;                 // of the best
  TokenLogit best[kMostBestTokens];  // best first
};
inline constexpr int64_t kReportFloats = sizeof(RowReport) / sizeof(float);
inline constexpr int64_t kReportHeadBytes = sizeof(RowReport) - sizeof(RowReport::best);

struct BestTokensArgs {
  const void* logits = nullptr;  // [rows][stride] of `type`, any of the three
  int64_t stride = 0;            // elements
  model::DType type = model::DType::kFloat32;
  int32_t rows = 0;
  int32_t columns = 0;                 // of this rank, pad columns not counted; may be 0
  int32_t first_token = 0;             // the token of column 0
  const int32_t* best = nullptr;       // [rows], device: how many are wanted; 0: the row is passed over
  const float* temperature = nullptr;  // [rows], device: for the sums; 0: none are wanted
  RowReport* reports = nullptr;        // [rows]; of a row that is passed over what was there
  void* workspace = nullptr;           // BestTokensWorkspaceBytes
};

int64_t BestTokensWorkspaceBytes(int32_t rows, int32_t columns);

// Enqueues. INVALID_ARGUMENT for more columns than there are kernels for (524,288).
absl::Status PickBestTokens(const BestTokensArgs& args, cudaStream_t stream);

// All ranks' reports of one row, in rank order, as one. Writes the best `count` of them to `room`, to which the result
// points.
BestTokens MergeReports(absl::Span<const RowReport* const> reports, int32_t count, float temperature, TokenLogit* room);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_SAMPLING_H_
