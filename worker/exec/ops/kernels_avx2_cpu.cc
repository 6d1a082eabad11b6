#include "worker/exec/ops/activation_kernel.h"
#include "worker/exec/ops/attention_kernel.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/matmul_kernel.h"
#include "worker/exec/ops/norm_kernel.h"
#include "worker/exec/ops/vec_avx2.h"

namespace tandem::worker {

constexpr CpuKernels kAvx2Kernels = {
    .isa = "avx2",
    .numerics_fp32 = "fma",
    .numerics_bf16 = "fma",
    .round_rows = nullptr,
    .matmul = MatmulKernel<Avx2Vec>::Run,
    .attention = AttentionKernel<Avx2Vec>::Run,
    .silu = ActivationKernel<Avx2Vec>::Silu,
    .gelu_tanh = ActivationKernel<Avx2Vec>::GeluTanh,
    .gelu = ActivationKernel<Avx2Vec>::Gelu,
    .relu = ActivationKernel<Avx2Vec>::Relu,
    .quick_gelu = ActivationKernel<Avx2Vec>::QuickGelu,
    .rms_norm = NormKernel<Avx2Vec>::Rms,
    .layer_norm = NormKernel<Avx2Vec>::Layer,
};

}  // namespace tandem::worker
