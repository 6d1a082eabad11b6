#include "worker/cuda/launch.h"
#include "worker/cuda/ops/activation.h"
#include "worker/cuda/ops/element.h"

namespace tandem::worker::cuda {
namespace {

constexpr unsigned int kThreads = 256;

template <ActivationKind kKind>
__device__ __forceinline__ float Apply(float x) {
  if constexpr (kKind == ActivationKind::kSilu) {
    return x / (1.0f + __expf(-x));
  } else if constexpr (kKind == ActivationKind::kGeluTanh) {
    // x/2 (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3), which equals x / (1 + e^-2u).
    const float minus_2u = (x + 0.044715f * x * x * x) * (-2.0f * 0.7978845608f);
    return x / (1.0f + __expf(minus_2u));
  } else if constexpr (kKind == ActivationKind::kGeluErf) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
  } else if constexpr (kKind == ActivationKind::kQuickGelu) {
    return x / (1.0f + __expf(-1.702f * x));
  } else if constexpr (kKind == ActivationKind::kTanh) {
    return tanhf(x);
  } else {
    return fmaxf(x, 0.0f);
  }
}

template <ActivationKind kKind, bool kGated, class T, int kWide>
__global__ void ActivationKernel(const T* input, T* output, int64_t rows, int64_t inner) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWide;
  if (i >= rows * inner) return;
  const int64_t row = i / inner;
  const T* const gate = input + row * (kGated ? 2 * inner : inner) + i % inner;
  if constexpr (kWide == 4) {
    const float4 x = LoadFour(gate);
    float4 y = make_float4(Apply<kKind>(x.x), Apply<kKind>(x.y), Apply<kKind>(x.z), Apply<kKind>(x.w));
    if constexpr (kGated) {
      const float4 up = LoadFour(gate + inner);
      y = make_float4(y.x * up.x, y.y * up.y, y.z * up.z, y.w * up.w);
    }
    StoreFour(output + i, y);
  } else {
    float y = Apply<kKind>(ToFloat(gate[0]));
    if constexpr (kGated) y *= ToFloat(gate[inner]);
    output[i] = FromFloat<T>(y);
  }
}

template <ActivationKind kKind, bool kGated, class T>
absl::Status Start(const ActivationArgs& args, cudaStream_t stream) {
  const T* const input = static_cast<const T*>(args.input);
  T* const output = static_cast<T*>(args.output);
  const int64_t count = args.rows * args.inner;
  if (args.inner % 4 == 0 && AlignedTo(input, 8) && AlignedTo(output, 8)) {
    return Launch("Activate", &ActivationKernel<kKind, kGated, T, 4>,
                  {dim3(BlocksFor(count, 4 * kThreads)), dim3(kThreads)}, stream, input, output, args.rows, args.inner);
  }
  return Launch("Activate", &ActivationKernel<kKind, kGated, T, 1>, {dim3(BlocksFor(count, kThreads)), dim3(kThreads)},
                stream, input, output, args.rows, args.inner);
}

template <ActivationKind kKind, class T>
absl::Status StartGatedOrNot(const ActivationArgs& args, cudaStream_t stream) {
  return args.gated ? Start<kKind, true, T>(args, stream) : Start<kKind, false, T>(args, stream);
}

template <class T, int kWide>
__global__ void BiasKernel(T* values, int64_t stride, const float* bias, int64_t rows, int64_t columns) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWide;
  if (i >= rows * columns) return;
  const int64_t column = i % columns;
  T* const value = values + i / columns * stride + column;
  if constexpr (kWide == 4) {
    const float4 x = LoadFour(value);
    const float4 b = LoadFour(bias + column);
    StoreFour(value, make_float4(x.x + b.x, x.y + b.y, x.z + b.z, x.w + b.w));
  } else {
    *value = FromFloat<T>(ToFloat(*value) + bias[column]);
  }
}

}  // namespace

absl::Status Activate(const ActivationArgs& args, cudaStream_t stream) {
  return ForSixteenBits("Activate", args.type, [&](auto type) {
    using T = decltype(type);
    switch (args.kind) {
      case ActivationKind::kSilu:
        return StartGatedOrNot<ActivationKind::kSilu, T>(args, stream);
      case ActivationKind::kGeluTanh:
        return StartGatedOrNot<ActivationKind::kGeluTanh, T>(args, stream);
      case ActivationKind::kGeluErf:
        return StartGatedOrNot<ActivationKind::kGeluErf, T>(args, stream);
      case ActivationKind::kQuickGelu:
        return StartGatedOrNot<ActivationKind::kQuickGelu, T>(args, stream);
      case ActivationKind::kRelu:
        return StartGatedOrNot<ActivationKind::kRelu, T>(args, stream);
      case ActivationKind::kTanh:
        return StartGatedOrNot<ActivationKind::kTanh, T>(args, stream);
    }
    return absl::InvalidArgumentError("Activate: unknown kind");
  });
}

absl::Status AddBias(const BiasArgs& args, cudaStream_t stream) {
  return ForAnyElement("AddBias", args.type, [&](auto type) {
    using T = decltype(type);
    T* const values = static_cast<T*>(args.values);
    const int64_t count = args.rows * args.columns;
    if (args.columns % 4 == 0 && args.stride % 4 == 0 && AlignedTo(values, 4 * sizeof(T)) && AlignedTo(args.bias, 16)) {
      return Launch("AddBias", &BiasKernel<T, 4>, {dim3(BlocksFor(count, 4 * kThreads)), dim3(kThreads)}, stream,
                    values, args.stride, args.bias, args.rows, args.columns);
    }
    return Launch("AddBias", &BiasKernel<T, 1>, {dim3(BlocksFor(count, kThreads)), dim3(kThreads)}, stream, values,
                  args.stride, args.bias, args.rows, args.columns);
  });
}

}  // namespace tandem::worker::cuda
