#include <cstddef>

#include "worker/exec/ops/activation_kernel.h"
#include "worker/exec/ops/attention_kernel.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/matmul_kernel.h"
#include "worker/exec/ops/norm_kernel.h"
#include "worker/exec/ops/vec_avx512_bf16.h"

namespace tandem::worker {
namespace {

void RoundRows(const RoundRowsArgs& args) {
  constexpr int64_t kLanes = Avx512Bf16Vec::kLanes;
  for (int64_t r = 0; r < args.count; ++r) {
    float* const row = args.rows + r * args.stride;
    auto* const rounded = reinterpret_cast<char*>(row);
    // What is written at i stands before what is still to be read.
    for (int64_t i = 0; i < args.inner; i += kLanes) {
      const int64_t left = args.inner - i;
      const auto lanes = static_cast<__mmask16>(left >= kLanes ? 0xffff : (1 << left) - 1);
      const __m256i halves = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, row + i));
      alignas(32) uint16_t values[kLanes];
      _mm256_store_si256(reinterpret_cast<__m256i*>(values), halves);
      const int64_t written = left >= kLanes ? kLanes : (left + 1) / 2 * 2;
      __builtin_memcpy(rounded + 2 * i, values, static_cast<size_t>(written) * 2);
    }
  }
}

}  // namespace

constexpr CpuKernels kAvx512Bf16Kernels = {
    .isa = "avx512_bf16",
    .numerics_fp32 = "fma",
    .numerics_bf16 = "dpbf16",
    .round_rows = RoundRows,
    .matmul = MatmulKernel<Avx512Bf16Vec>::Run,
    .attention = AttentionKernel<Avx512Bf16Vec>::Run,
    .silu = ActivationKernel<Avx512Bf16Vec>::Silu,
    .gelu_tanh = ActivationKernel<Avx512Bf16Vec>::GeluTanh,
    .gelu = ActivationKernel<Avx512Bf16Vec>::Gelu,
    .relu = ActivationKernel<Avx512Bf16Vec>::Relu,
    .quick_gelu = ActivationKernel<Avx512Bf16Vec>::QuickGelu,
    .rms_norm = NormKernel<Avx512Bf16Vec>::Rms,
    .layer_norm = NormKernel<Avx512Bf16Vec>::Layer,
};

}  // namespace tandem::worker
