// The activation between the two products of an MLP, and the addition of a bias.
#ifndef TANDEM_WORKER_CUDA_OPS_ACTIVATION_H_
#define TANDEM_WORKER_CUDA_OPS_ACTIVATION_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

enum class ActivationKind : uint8_t { kSilu, kGeluTanh, kGeluErf, kQuickGelu, kRelu, kTanh };

// output[r][i] = act(input[r][i]) * input[r][inner + i] where gated, else act(input[r][i]). Computed in float32.
struct ActivationArgs {
  ActivationKind kind = ActivationKind::kSilu;
  bool gated = true;
  const void* input = nullptr;  // [rows][gated ? 2 * inner : inner] of `type`
  void* output = nullptr;       // [rows][inner] of `type`; may be `input` where not gated
  model::DType type = model::DType::kBFloat16;
  int64_t rows = 0;
  int64_t inner = 0;
};

absl::Status Activate(const ActivationArgs& args, cudaStream_t stream);

// values[r][c] += bias[c], with the sum in float32.
struct BiasArgs {
  void* values = nullptr;  // [rows][stride] of `type`, any of the three
  int64_t stride = 0;
  model::DType type = model::DType::kBFloat16;
  const float* bias = nullptr;  // [columns]
  int64_t rows = 0;
  int64_t columns = 0;
};

absl::Status AddBias(const BiasArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_ACTIVATION_H_
