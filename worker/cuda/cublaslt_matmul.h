// Products of activations with weights on the device: the hand-written kernel (ops/gemv.h) for a few rows, cuBLASLt for
// more.
//
//   output[r][n] (+)= bias[n] + sum over k of input[r][k] * weight[n][k]
//
// cuBLASLt is asked once for each shape which of its kernels to take, and for row counts only by powers of two: the
// choice for 33 to 64 rows is the one for 64. So a step asks nothing, and a row's bits are the same for all counts of
// one bucket that the chosen kernel treats alike; between buckets, and between cuBLASLt and the kernel for few rows,
// the last bits differ. How good the choices are for the counts in between is not measured here.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_CUBLASLT_MATMUL_H_
#define TANDEM_WORKER_CUDA_CUBLASLT_MATMUL_H_

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/cuda/weight_layout.h"

namespace tandem::worker::cuda {

// What cuBLASLt may use beside its operands. Its vendor's advice for the newest devices; older ones need less.
inline constexpr int64_t kMatmulWorkspaceBytes = 32 << 20;

struct MatmulArgs {
  const void* input = nullptr;  // [rows][input_stride] of the weights' type
  int64_t input_stride = 0;     // elements
  const DeviceLinear* linear = nullptr;
  void* output = nullptr;  // [rows][output_stride] of output_type
  int64_t output_stride = 0;
  model::DType output_type = model::DType::kBFloat16;  // the weights' type or kFloat32
  bool accumulate = false;                             // adds to what is in `output`; kFloat32 only
  int64_t rows = 0;
};

// output = linear(input), both as wide as the weights are.
inline MatmulArgs ProductOf(const DeviceLinear& linear, const void* input, int64_t rows, void* output,
                            model::DType type) {
  return {.input = input,
          .input_stride = linear.weight.inner,
          .linear = &linear,
          .output = output,
          .output_stride = linear.weight.columns,
          .output_type = type,
          .rows = rows};
}
// residual += linear(input), in float32, `hidden` to a row.
inline MatmulArgs SumOf(const DeviceLinear& linear, const void* input, int64_t rows, float* residual, int64_t hidden) {
  MatmulArgs args = ProductOf(linear, input, rows, residual, model::DType::kFloat32);
  args.output_stride = hidden;
  args.accumulate = true;
  return args;
}

// Row counts as cuBLASLt is asked for them: the next power of two, 16 at least.
int64_t MatmulBucket(int64_t rows);

class Matmul {
 public:
  // `workspace` has kMatmulWorkspaceBytes of device memory and outlives this. One stream at a time may use it.
  static absl::StatusOr<std::unique_ptr<Matmul>> Create(model::DType type, void* workspace);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // Enqueues. The first call of a shape and bucket asks cuBLASLt and may allocate; later ones do not.
  absl::Status Run(const MatmulArgs& args, cudaStream_t stream);

 private:
  struct Plan;
  // Columns, inner, rows asked for, output type, accumulate, strides of input and output.
  using Key = std::tuple<int64_t, int64_t, int64_t, model::DType, bool, int64_t, int64_t>;

  Matmul(model::DType type, cublasLtHandle_t handle, void* workspace);
  absl::StatusOr<std::unique_ptr<Plan>> MakePlan(const MatmulArgs& args, int64_t rows) const;
  // The plan that was chosen for so many rows, chosen now if it has not been.
  absl::StatusOr<Plan*> PlanFor(const MatmulArgs& args, int64_t rows);
  cublasStatus_t RunPlan(Plan& plan, const MatmulArgs& args, cudaStream_t stream);

  const model::DType type_;
  const cublasLtHandle_t handle_;
  void* const workspace_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_CUBLASLT_MATMUL_H_
