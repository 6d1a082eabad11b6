#include "worker/exec/ops/activation_kernel.h"
#include "worker/exec/ops/attention_kernel.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/matmul_kernel.h"
#include "worker/exec/ops/norm_kernel.h"
#include "worker/exec/ops/vec_generic.h"

namespace tandem::worker {

constexpr CpuKernels kGenericKernels = {
    .isa = "generic",
    .numerics_fp32 = "separate",
    .numerics_bf16 = "separate",
    .round_rows = nullptr,
    .matmul = MatmulKernel<GenericVec>::Run,
    .attention = AttentionKernel<GenericVec>::Run,
    .silu = ActivationKernel<GenericVec>::Silu,
    .gelu_tanh = ActivationKernel<GenericVec>::GeluTanh,
    .gelu = ActivationKernel<GenericVec>::Gelu,
    .relu = ActivationKernel<GenericVec>::Relu,
    .quick_gelu = ActivationKernel<GenericVec>::QuickGelu,
    .rms_norm = NormKernel<GenericVec>::Rms,
    .layer_norm = NormKernel<GenericVec>::Layer,
};

}  // namespace tandem::worker
