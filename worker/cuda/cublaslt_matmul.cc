#include "worker/cuda/cublaslt_matmul.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/cuda/check.h"
#include "worker/cuda/ops/activation.h"
#include "worker/cuda/ops/gemv.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;

absl::Status BlasStatus(cublasStatus_t status, absl::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  const std::string message = absl::StrCat("cuBLASLt, ", what, ": ", cublasLtGetStatusString(status));
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return absl::ResourceExhaustedError(message);
  return absl::InternalError(message);
}

cudaDataType_t CudaType(DType type) {
  switch (type) {
    case DType::kFloat32:
      return CUDA_R_32F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat16:
      return CUDA_R_16F;
  }
  return CUDA_R_32F;
}

class Layout {
 public:
  ~Layout() {
    if (layout_ != nullptr) cublasLtMatrixLayoutDestroy(layout_);
  }
  absl::Status Create(DType type, int64_t rows, int64_t columns, int64_t stride) {
    return BlasStatus(cublasLtMatrixLayoutCreate(&layout_, CudaType(type), static_cast<uint64_t>(rows),
                                                 static_cast<uint64_t>(columns), stride),
                      "describing a matrix");
  }
  // A layout that exists takes any number here.
  void SetColumns(int64_t columns) {
    const uint64_t value = static_cast<uint64_t>(columns);
    cublasLtMatrixLayoutSetAttribute(layout_, CUBLASLT_MATRIX_LAYOUT_COLS, &value, sizeof(value));
  }
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

class Preference {
 public:
  ~Preference() {
    if (preference_ != nullptr) cublasLtMatmulPreferenceDestroy(preference_);
  }
  absl::Status Create() {
    if (absl::Status made = BlasStatus(cublasLtMatmulPreferenceCreate(&preference_), "making preferences");
        !made.ok()) {
      return made;
    }
    const uint64_t workspace = static_cast<uint64_t>(kMatmulWorkspaceBytes);
    // Where a sum is split, its parts are float32 too; without this they may be as narrow as the output.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    absl::Status set = Set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    if (set.ok()) set = Set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
    return set;
  }
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  template <typename T>
  absl::Status Set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    return BlasStatus(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof(value)),
                      "setting preferences");
  }

  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

// cuBLASLt counts column by column, where our row-major [rows][n] is a matrix of n rows: so the weights are its first
// operand, transposed, and the activations its second.
struct Matmul::Plan {
  ~Plan() {
    if (product != nullptr) cublasLtMatmulDescDestroy(product);
  }
  cublasLtMatmulDesc_t product = nullptr;
  Layout weight;  // inner x n
  Layout input;   // inner x rows
  Layout output;  // n x rows
  cublasLtMatmulAlgo_t algorithm = {};
};

int64_t MatmulBucket(int64_t rows) {
  return std::max<int64_t>(16, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows))));
}

absl::StatusOr<std::unique_ptr<Matmul>> Matmul::Create(DType type, void* workspace) {
  cublasLtHandle_t handle = nullptr;
  if (absl::Status made = BlasStatus(cublasLtCreate(&handle), "opening the library"); !made.ok()) return made;
  return std::unique_ptr<Matmul>(new Matmul(type, handle, workspace));
}

Matmul::Matmul(DType type, cublasLtHandle_t handle, void* workspace)
    : type_(type), handle_(handle), workspace_(workspace) {}

Matmul::~Matmul() {
  plans_.clear();
  cublasLtDestroy(handle_);
}

absl::StatusOr<std::unique_ptr<Matmul::Plan>> Matmul::MakePlan(const MatmulArgs& args, int64_t rows) const {
  const DeviceMatrix& weight = args.linear->weight;
  auto plan = std::make_unique<Plan>();
  absl::Status made =
      BlasStatus(cublasLtMatmulDescCreate(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  if (!made.ok()) return made;
  const cublasOperation_t transposed = CUBLAS_OP_T;
  made = BlasStatus(
      cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
      "describing a product");
  if (made.ok()) made = plan->weight.Create(type_, weight.inner, weight.columns, weight.inner);
  if (made.ok()) made = plan->input.Create(type_, weight.inner, rows, args.input_stride);
  if (made.ok()) made = plan->output.Create(args.output_type, weight.columns, rows, args.output_stride);
  Preference preference;
  if (made.ok()) made = preference.Create();
  if (!made.ok()) return made;

  cublasLtMatmulHeuristicResult_t best = {};
  int found = 0;
  made = BlasStatus(
      cublasLtMatmulAlgoGetHeuristic(handle_, plan->product, plan->weight.get(), plan->input.get(), plan->output.get(),
                                     plan->output.get(), preference.get(), 1, &best, &found),
      absl::StrCat("choosing a kernel for ", rows, " x ", weight.inner, " times ", weight.columns));
  if (!made.ok()) return made;
  if (found < 1 || best.state != CUBLAS_STATUS_SUCCESS) {
    return absl::InternalError(absl::StrCat("cuBLASLt has no kernel for ", rows, " x ", weight.inner, " times ",
                                            weight.columns, " in ", model::NameOf(type_)));
  }
  plan->algorithm = best.algo;
  return plan;
}

absl::StatusOr<Matmul::Plan*> Matmul::PlanFor(const MatmulArgs& args, int64_t rows) {
  const DeviceMatrix& weight = args.linear->weight;
  const Key key{weight.columns,    weight.inner,      rows, args.output_type, args.accumulate,
                args.input_stride, args.output_stride};
  std::unique_ptr<Plan>& plan = plans_[key];
  if (plan == nullptr) {
    absl::StatusOr<std::unique_ptr<Plan>> made = MakePlan(args, rows);
    if (!made.ok()) return made.status();
    plan = *std::move(made);
  }
  return plan.get();
}

cublasStatus_t Matmul::RunPlan(Plan& plan, const MatmulArgs& args, cudaStream_t stream) {
  plan.input.SetColumns(args.rows);
  plan.output.SetColumns(args.rows);
  const float one = 1.0f;
  const float keep = args.accumulate ? 1.0f : 0.0f;
  return cublasLtMatmul(handle_, plan.product, &one, args.linear->weight.data, plan.weight.get(), args.input,
                        plan.input.get(), &keep, args.output, plan.output.get(), args.output, plan.output.get(),
                        &plan.algorithm, workspace_, static_cast<size_t>(kMatmulWorkspaceBytes), stream);
}

absl::Status Matmul::Run(const MatmulArgs& args, cudaStream_t stream) {
  if (args.rows == 0) return absl::OkStatus();
  const DeviceMatrix& weight = args.linear->weight;
  const GemvArgs few{.input = args.input,
                     .input_stride = args.input_stride,
                     .weight = weight.data,
                     .type = type_,
                     .bias = args.linear->bias,
                     .output = args.output,
                     .output_stride = args.output_stride,
                     .output_type = args.output_type,
                     .accumulate = args.accumulate,
                     .rows = static_cast<int32_t>(std::min<int64_t>(args.rows, kGemvMaxRows + 1)),
                     .columns = weight.columns,
                     .inner = weight.inner};
  if (GemvTakes(few)) return Gemv(few, stream);

  absl::StatusOr<Plan*> plan = PlanFor(args, MatmulBucket(args.rows));
  if (!plan.ok()) return plan.status();
  cublasStatus_t ran = RunPlan(**plan, args, stream);
  if (ran == CUBLAS_STATUS_NOT_SUPPORTED || ran == CUBLAS_STATUS_INVALID_VALUE) {
    // The kernel for the bucket's size does not take this count. It gets one of its own.
    plan = PlanFor(args, args.rows);
    if (!plan.ok()) return plan.status();
    ran = RunPlan(**plan, args, stream);
  }
  if (ran != CUBLAS_STATUS_SUCCESS) return BlasStatus(ran, absl::StrCat("a product of ", args.rows, " rows"));
  if (args.linear->bias == nullptr) return absl::OkStatus();
  return AddBias({.values = args.output,
                  .stride = args.output_stride,
                  .type = args.output_type,
                  .bias = args.linear->bias,
                  .rows = args.rows,
                  .columns = weight.columns},
                 stream);
}

}  // namespace tandem::worker::cuda
