#include "worker/exec/ops/activation_kernel.h"
#include "worker/exec/ops/attention_kernel.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/matmul_kernel.h"
#include "worker/exec/ops/norm_kernel.h"
#include "worker/exec/ops/vec_avx512.h"

namespace tandem::worker {

constexpr CpuKernels kAvx512Kernels = {
    .isa = "avx512",
    .numerics_fp32 = "fma",
    .numerics_bf16 = "fma",
    .round_rows = nullptr,
    .matmul = MatmulKernel<Avx512Vec>::Run,
    .attention = AttentionKernel<Avx512Vec>::Run,
    .silu = ActivationKernel<Avx512Vec>::Silu,
    .gelu_tanh = ActivationKernel<Avx512Vec>::GeluTanh,
    .gelu = ActivationKernel<Avx512Vec>::Gelu,
    .relu = ActivationKernel<Avx512Vec>::Relu,
    .quick_gelu = ActivationKernel<Avx512Vec>::QuickGelu,
    .rms_norm = NormKernel<Avx512Vec>::Rms,
    .layer_norm = NormKernel<Avx512Vec>::Layer,
};

}  // namespace tandem::worker
