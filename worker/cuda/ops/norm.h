// RMSNorm and LayerNorm of the residual stream, with the addition that comes before. A model whose norms stand behind
// its blocks goes on with what was normed (normed_residual).
//
// One block owns one row: what it computes does not depend on the other rows of the batch.
#ifndef TANDEM_WORKER_CUDA_OPS_NORM_H_
#define TANDEM_WORKER_CUDA_OPS_NORM_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/dtype.h"
#include "base/model/model_config.h"

namespace tandem::worker::cuda {

// For output row r and its source row s (= row_index[r], or r): residual[s] += delta[s], output[r] = norm(residual[s]).
struct NormArgs {
  model::Norm norm = model::Norm::kRms;
  float* residual = nullptr;                         // [*][hidden]; changed only with `delta` or normed_residual
  const void* delta = nullptr;                       // [*][hidden] of delta_type, or null: nothing to add
  model::DType delta_type = model::DType::kFloat32;  // any of the three
  const float* weight = nullptr;                     // [hidden]
  const float* bias = nullptr;                       // [hidden]; LayerNorm only, may be null
  float epsilon = 0;
  const int32_t* row_index = nullptr;           // [rows] on the device, no row twice; null: every row in order
  void* output = nullptr;                       // [rows][hidden] of `type`; null: only add
  model::DType type = model::DType::kBFloat16;  // any of the three
  bool normed_residual = false;                 // residual[s] = norm(residual[s]) too; only with `output`
  int64_t rows = 0;
  int32_t hidden = 0;
};

absl::Status AddNorm(const NormArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_NORM_H_
