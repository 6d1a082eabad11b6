// RMSNorm and LayerNorm of one row, as a template over the vector type.
//
// Sums run in sixteen partial sums whatever the vector width, added up in one order at the end.
#ifndef TANDEM_WORKER_EXEC_OPS_NORM_KERNEL_H_
#define TANDEM_WORKER_EXEC_OPS_NORM_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "worker/exec/ops/cpu_kernels.h"

namespace tandem::worker {

template <class V>
class NormKernel {
 public:
  static void Rms(const NormArgs& args) {
    const float mean_square =
        Sum(args.input, args.count, [](Reg x, Reg sum) { return V::Fma(x, x, sum); }) / args.count;
    const Reg scale = V::Broadcast(1.0f / __builtin_sqrtf(mean_square + args.epsilon));
    Each(args, [&](Reg x, Reg weight, Reg) { return V::Mul(weight, V::Mul(x, scale)); });
  }

  static void Layer(const NormArgs& args) {
    const float mean = Sum(args.input, args.count, [](Reg x, Reg sum) { return V::Add(x, sum); }) / args.count;
    const Reg shift = V::Broadcast(mean);
    const float variance = Sum(
                               args.input, args.count,
                               [&](Reg x, Reg sum) {
                                 const Reg centred = V::Sub(x, shift);
                                 return V::Fma(centred, centred, sum);
                               },
                               mean) /
                           args.count;
    const Reg scale = V::Broadcast(1.0f / __builtin_sqrtf(variance + args.epsilon));
    Each(args, [&](Reg x, Reg weight, Reg bias) { return V::Fma(V::Mul(V::Sub(x, shift), scale), weight, bias); });
  }

 private:
  using Reg = typename V::Reg;
  static constexpr int kWide = 16 / V::kLanes;

  // The end of the row is filled up with `neutral`, which adds nothing.
  template <class F>
  static inline __attribute__((always_inline)) float Sum(const float* x, int64_t count, F f, float neutral = 0) {
    Reg sum[kWide];
    for (int j = 0; j < kWide; ++j) sum[j] = V::Zero();
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
      for (int j = 0; j < kWide; ++j) sum[j] = f(V::Load(x + i + j * V::kLanes), sum[j]);
    }
    if (i < count) {
      float rest[16];
      for (int j = 0; j < 16; ++j) rest[j] = i + j < count ? x[i + j] : neutral;
      for (int j = 0; j < kWide; ++j) sum[j] = f(V::Load(rest + j * V::kLanes), sum[j]);
    }
    float lanes[16];
    for (int j = 0; j < kWide; ++j) V::Store(lanes + j * V::kLanes, sum[j]);
    float total = 0;
    for (const float lane : lanes) total += lane;
    return total;
  }

  template <class F>
  static inline __attribute__((always_inline)) void Each(const NormArgs& args, F f) {
    int64_t i = 0;
    for (; i + V::kLanes <= args.count; i += V::kLanes) {
      const Reg bias = args.bias != nullptr ? V::Load(args.bias + i) : V::Zero();
      V::Store(args.output + i, f(V::Load(args.input + i), V::Load(args.weight + i), bias));
    }
    if (i == args.count) return;
    float x[V::kLanes] = {};
    float weight[V::kLanes] = {};
    float bias[V::kLanes] = {};
    const size_t rest = static_cast<size_t>(args.count - i) * 4;
    __builtin_memcpy(x, args.input + i, rest);
    __builtin_memcpy(weight, args.weight + i, rest);
    if (args.bias != nullptr) __builtin_memcpy(bias, args.bias + i, rest);
    V::Store(x, f(V::Load(x), V::Load(weight), V::Load(bias)));
    __builtin_memcpy(args.output + i, x, rest);
  }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_NORM_KERNEL_H_
