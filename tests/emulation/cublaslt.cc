#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>
#include <initializer_list>

#include "tests/emulation/findings.h"
#include "tests/emulation/runtime.h"

struct cublasLtContext {};

struct cublasLtMatmulDescOpaque_t {
  int32_t transpose_a = CUBLAS_OP_N;
  int32_t transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;  // the type of D
};

struct cublasLtMatrixLayoutOpaque_t {
  int32_t type = CUDA_R_32F;
  int32_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0;
  uint64_t columns = 0;
  int64_t leading = 0;
  int32_t batch = 1;
  int64_t batch_stride = 0;
};

struct cublasLtMatmulPreferenceOpaque_t {
  int32_t search_mode = 0;
  uint64_t workspace_bytes = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
};

namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;

template <class T>
cublasStatus_t Put(T* field, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

float Read(const void* data, int32_t type, int64_t i) {
  switch (type) {
    case CUDA_R_16F:
      return __half2float(static_cast<const __half*>(data)[i]);
    case CUDA_R_16BF:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
    default:
      return static_cast<const float*>(data)[i];
  }
}

void Write(void* data, int32_t type, int64_t i, float value) {
  switch (type) {
    case CUDA_R_16F:
      static_cast<__half*>(data)[i] = __float2half_rn(value);
      break;
    case CUDA_R_16BF:
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(value);
      break;
    default:
      static_cast<float*>(data)[i] = value;
  }
}

int64_t Place(const Layout& layout, int64_t batch, int64_t row, int64_t column) {
  const int64_t in_matrix =
      layout.order == CUBLASLT_ORDER_COL ? column * layout.leading + row : row * layout.leading + column;
  return batch * layout.batch_stride + in_matrix;
}

float Finish(float value, uint32_t epilogue) {
  if (epilogue & CUBLASLT_EPILOGUE_RELU) return std::fmax(value, 0.0f);
  if (epilogue & CUBLASLT_EPILOGUE_GELU) {
    return 0.5f * value * (1.0f + std::tanh(0.7978845608f * (value + 0.044715f * value * value * value)));
  }
  return value;
}

bool Spans(const Layout& layout) {
  const uint64_t line = layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.columns;
  return layout.rows > 0 && layout.columns > 0 && layout.leading >= static_cast<int64_t>(line);
}

bool Fits(const Layout& a, const Layout& b, const Layout& d, const cublasLtMatmulDescOpaque_t& description) {
  const uint64_t inner = description.transpose_a == CUBLAS_OP_N ? a.columns : a.rows;
  const uint64_t rows = description.transpose_a == CUBLAS_OP_N ? a.rows : a.columns;
  const uint64_t inner_b = description.transpose_b == CUBLAS_OP_N ? b.rows : b.columns;
  const uint64_t columns = description.transpose_b == CUBLAS_OP_N ? b.columns : b.rows;
  return inner == inner_b && rows == d.rows && columns == d.columns && a.type == b.type && a.batch == d.batch &&
         b.batch == d.batch && Spans(a) && Spans(b) && Spans(d);
}

constexpr uint64_t kChosen = 0x7a4d;  // in an algorithm that the heuristic gave

// A kernel is chosen for operands that begin on 256 bytes unless the preferences say less, and ours never do.
void CheckAligned(std::initializer_list<const void*> operands) {
  for (const void* operand : operands) {
    if (reinterpret_cast<uintptr_t>(operand) % 256 != 0) {
      tandem::emulation::Report("cublasLtMatmul: an operand does not begin on 256 bytes, as its kernel was promised");
    }
  }
}

}  // namespace

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "CUBLAS_STATUS";
}

const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }
size_t cublasLtGetVersion() { return 130000; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (tandem::emulation::Begin("cublasLtCreate") != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *description = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete description;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Put(&description->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return Put(&description->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Put(&description->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Put(&description->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return Put(&description->bias_type, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  *layout = new Layout{type, CUBLASLT_ORDER_COL, rows, columns, leading, 1, 0};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return Put(&layout->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return Put(&layout->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return Put(&layout->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return Put(&layout->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return Put(&layout->leading, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return Put(&layout->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return Put(&layout->batch_stride, value, bytes);
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
      return Put(&preference->search_mode, value, bytes);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return Put(&preference->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return Put(&preference->reductions, value, bytes);
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  *returned = 0;
  if (tandem::emulation::Begin("cublasLtMatmulAlgoGetHeuristic") != cudaSuccess) return CUBLAS_STATUS_INTERNAL_ERROR;
  if (requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  // What is chosen there is loaded there, too (runtime.cc).
  if (tandem::emulation::captures_of_this_thread > 0) {
    tandem::emulation::Report("cuBLASLt chooses a kernel within a capture");
  }
  if (!Fits(*a, *b, *d, *description)) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].algo.data[0] = kChosen;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *returned = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t, cudaStream_t stream) {
  if (!Fits(*a_layout, *b_layout, *d_layout, *description)) return CUBLAS_STATUS_INVALID_VALUE;
  // No algorithm is allowed, and means that the library asks itself for one in every call.
  if (algorithm != nullptr && algorithm->data[0] != kChosen) return CUBLAS_STATUS_INVALID_VALUE;
  CheckAligned({a, b, c, d, workspace});
  if (tandem::emulation::Begin("cublasLtMatmul") != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  const float factor = *static_cast<const float*>(alpha);
  const float kept = *static_cast<const float*>(beta);
  // Descriptions may change or go after the call; the work keeps what they said.
  const auto work = [factor, kept, a, b, c, d, op = *description, la = *a_layout, lb = *b_layout, lc = *c_layout,
                     ld = *d_layout]() -> cudaError_t {
    const int64_t rows = static_cast<int64_t>(ld.rows);
    const int64_t columns = static_cast<int64_t>(ld.columns);
    const int64_t inner = static_cast<int64_t>(op.transpose_a == CUBLAS_OP_N ? la.columns : la.rows);
    std::vector<float> left(static_cast<size_t>(rows * inner));
    std::vector<float> right(static_cast<size_t>(columns * inner));
    for (int64_t batch = 0; batch < ld.batch; ++batch) {
      for (int64_t k = 0; k < inner; ++k) {
        for (int64_t i = 0; i < rows; ++i) {
          left[static_cast<size_t>(i * inner + k)] =
              Read(a, la.type, op.transpose_a == CUBLAS_OP_N ? Place(la, batch, i, k) : Place(la, batch, k, i));
        }
        for (int64_t j = 0; j < columns; ++j) {
          right[static_cast<size_t>(j * inner + k)] =
              Read(b, lb.type, op.transpose_b == CUBLAS_OP_N ? Place(lb, batch, k, j) : Place(lb, batch, j, k));
        }
      }
      for (int64_t j = 0; j < columns; ++j) {
        for (int64_t i = 0; i < rows; ++i) {
          float sum = 0;
          for (int64_t k = 0; k < inner; ++k) {
            sum += left[static_cast<size_t>(i * inner + k)] * right[static_cast<size_t>(j * inner + k)];
          }
          sum *= factor;
          if (kept != 0) sum += kept * Read(c, lc.type, Place(lc, batch, i, j));
          if (op.epilogue & CUBLASLT_EPILOGUE_BIAS) {
            sum += Read(op.bias, op.bias_type < 0 ? ld.type : op.bias_type, i);
          }
          Write(d, ld.type, Place(ld, batch, i, j), Finish(sum, op.epilogue));
        }
      }
    }
    return cudaSuccess;
  };
  return tandem::emulation::Enqueue(stream, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                 : CUBLAS_STATUS_EXECUTION_FAILED;
}
