// SiLU and GELU (tanh form), alone or times a second input, as a template over the vector type.
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
