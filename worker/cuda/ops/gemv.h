// Products of few rows with a matrix, at the speed at which the matrix can be read.
//
// output[r][n] = bias[n] + sum over k of input[r][k] * weight[n][k], for 1 to 8 rows; sums are float32. A row's result
// does not depend on how many rows there are. It does differ in its last bits from cuBLASLt's, which serves more rows.
#ifndef TANDEM_WORKER_CUDA_OPS_GEMV_H_
#define TANDEM_WORKER_CUDA_OPS_GEMV_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

inline constexpr int32_t kGemvMaxRows = 8;

struct GemvArgs {
  const void* input = nullptr;   // [rows][input_stride] of `type`
  int64_t input_stride = 0;      // elements
  const void* weight = nullptr;  // [columns][inner] of `type`, rows one after the other
  model::DType type = model::DType::kBFloat16;
  const float* bias = nullptr;  // [columns], may be null
  void* output = nullptr;       // [rows][output_stride] of output_type
  int64_t output_stride = 0;
  model::DType output_type = model::DType::kBFloat16;  // `type` or kFloat32
  bool accumulate = false;                             // add to what is in `output`; kFloat32 only
  int32_t rows = 0;
  int64_t columns = 0;
  int64_t inner = 0;
};

// Whether Gemv takes these sizes: 1 <= rows <= 8, inner a multiple of 8, input_stride too, 16-byte aligned pointers.
// For all others the caller has cuBLASLt.
bool GemvTakes(const GemvArgs& args);

// REQUIRES: GemvTakes(args).
absl::Status Gemv(const GemvArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_GEMV_H_
