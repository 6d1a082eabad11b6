// SiLU, GELU (by erf, in the tanh form, and CLIP's quick one) and ReLU, alone or times a second input, as a template
// over the vector type.
#ifndef TANDEM_WORKER_EXEC_OPS_ACTIVATION_KERNEL_H_
#define TANDEM_WORKER_EXEC_OPS_ACTIVATION_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/exp_kernel.h"

namespace tandem::worker {

template <class V>
class ActivationKernel {
 public:
  // x / (1 + e^-x)
  static void Silu(const ActivationArgs& args) {
    Apply(args, [](Reg x) {
      const Reg one = V::Broadcast(1.0f);
      return V::Div(x, V::Add(one, Exp<V>(V::Sub(V::Zero(), x))));
    });
  }

  // x/2 (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3), which equals x / (1 + e^-2u).
  static void GeluTanh(const ActivationArgs& args) {
    Apply(args, [](Reg x) {
      const Reg one = V::Broadcast(1.0f);
      const Reg cube = V::Mul(V::Mul(x, x), x);
      const Reg inner = V::Fma(cube, V::Broadcast(0.044715f), x);
      const Reg minus_2u = V::Mul(inner, V::Broadcast(-2.0f * 0.7978845608f));
      return V::Div(x, V::Add(one, Exp<V>(minus_2u)));
    });
  }

  // x/2 (1 + erf(x / sqrt 2)), with erf by Abramowitz and Stegun 7.1.26: off by 1.5e-7 at most. With z = |x| / sqrt 2
  // and q(z) = 1 - erf z, both signs are max(x, 0) - |x|/2 q(z).
  static void Gelu(const ActivationArgs& args) {
    Apply(args, [](Reg x) {
      const Reg one = V::Broadcast(1.0f);
      const Reg size = V::Max(x, V::Sub(V::Zero(), x));
      const Reg z = V::Mul(size, V::Broadcast(0.70710678118f));
      const Reg t = V::Div(one, V::Fma(z, V::Broadcast(0.3275911f), one));
      Reg q = V::Broadcast(1.061405429f);
      q = V::Fma(q, t, V::Broadcast(-1.453152027f));
      q = V::Fma(q, t, V::Broadcast(1.421413741f));
      q = V::Fma(q, t, V::Broadcast(-0.284496736f));
      q = V::Fma(q, t, V::Broadcast(0.254829592f));
      q = V::Mul(V::Mul(q, t), Exp<V>(V::Sub(V::Zero(), V::Mul(z, z))));
      return V::Sub(V::Max(x, V::Zero()), V::Mul(V::Mul(size, V::Broadcast(0.5f)), q));
    });
  }

  static void Relu(const ActivationArgs& args) {
    Apply(args, [](Reg x) { return V::Max(x, V::Zero()); });
  }

  // x / (1 + e^(-1.702 x)), CLIP's stand-in for GELU.
  static void QuickGelu(const ActivationArgs& args) {
    Apply(args, [](Reg x) { return V::Div(x, V::Add(V::Broadcast(1.0f), Exp<V>(V::Mul(x, V::Broadcast(-1.702f))))); });
  }

 private:
  using Reg = typename V::Reg;

  template <class F>
  static inline __attribute__((always_inline)) void Apply(const ActivationArgs& args, F f) {
    int64_t i = 0;
    for (; i + V::kLanes <= args.count; i += V::kLanes) {
      const Reg y = f(V::Load(args.a + i));
      V::Store(args.a + i, args.b != nullptr ? V::Mul(y, V::Load(args.b + i)) : y);
    }
    if (i == args.count) return;
    float a[V::kLanes] = {};
    float b[V::kLanes] = {};
    const size_t rest = static_cast<size_t>(args.count - i) * 4;
    __builtin_memcpy(a, args.a + i, rest);
    Reg y = f(V::Load(a));
    if (args.b != nullptr) {
      __builtin_memcpy(b, args.b + i, rest);
      y = V::Mul(y, V::Load(b));
    }
    V::Store(a, y);
    __builtin_memcpy(args.a + i, a, rest);
  }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_ACTIVATION_KERNEL_H_
