#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/reduce.h"
#include "worker/cuda/ops/rope.h"

namespace tandem::worker::cuda {
namespace {

// As in worker/exec/ops/rope_cpu.cc, operation for operation: reduced by multiples of pi/2 in three parts, then the
// Taylor sums. __dmul_rn and its like keep the compiler from fusing what is not fused there.
__device__ void SineAndCosine(double angle, double* sine, double* cosine) {
  constexpr double kTwoByPi = 2 / 3.14159265358979323846;
  const int64_t quarter = static_cast<int64_t>(__dadd_rn(__dmul_rn(angle, kTwoByPi), 0.5));
  const double n = static_cast<double>(quarter);
  const double r = __dadd_rn(__dadd_rn(__dadd_rn(angle, -__dmul_rn(n, 0x1.921fb6p+0)), -__dmul_rn(n, -0x1.777a5cp-25)),
                             -__dmul_rn(n, -0x1.ee59d9cceba40p-50));
  const double square = __dmul_rn(r, r);
  double s = 0;
  double c = 0;
  for (int k = 8; k >= 1; --k) {
    s = __dmul_rn(__dadd_rn(1, s), -square) / ((2 * k) * (2 * k + 1));
    c = __dmul_rn(__dadd_rn(1, c), -square) / ((2 * k - 1) * (2 * k));
  }
  s = __dmul_rn(r, __dadd_rn(1, s));
  c = __dadd_rn(1, c);
  const int turn = static_cast<int>(quarter & 3);
  const double to_sine = turn % 2 == 0 ? s : c;
  const double to_cosine = turn % 2 == 0 ? c : s;
  *sine = turn >= 2 ? -to_sine : to_sine;
  *cosine = turn == 1 || turn == 2 ? -to_cosine : to_cosine;
}

__global__ void RopeAnglesKernel(RopeAnglesArgs args) {
  const int32_t half = args.head_dim / 2;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= args.tokens * half) return;
  const int64_t token = i / half;
  const int32_t pair = static_cast<int32_t>(i % half);
  // The product is rounded to float32 as in the models' reference.
  const float angle = __fmul_rn(static_cast<float>(args.positions[token]), args.frequencies[pair]);
  double sine, cosine;
  SineAndCosine(angle, &sine, &cosine);
  float* const out = args.angles + token * args.head_dim;
  out[pair] = __fmul_rn(static_cast<float>(cosine), args.magnitude);
  out[half + pair] = __fmul_rn(static_cast<float>(sine), args.magnitude);
}

constexpr int kHeadsPerBlock = 4;

// What one over the root of the mean square of a head is; every lane gets it. A lane looks at what it turns afterwards.
template <class T, int kWide>
__device__ float HeadScale(const T* head, int32_t half, int32_t lane, float epsilon) {
  float square = 0;
  for (int32_t i = lane * kWide; i < half; i += 32 * kWide) {
    if constexpr (kWide == 2) {
      const float2 a = UnpackPair(*reinterpret_cast<const uint32_t*>(head + i), T{});
      const float2 b = UnpackPair(*reinterpret_cast<const uint32_t*>(head + half + i), T{});
      square += a.x * a.x + a.y * a.y + b.x * b.x + b.y * b.y;
    } else {
      const float a = ToFloat(head[i]);
      const float b = ToFloat(head[half + i]);
      square += a * a + b * b;
    }
  }
  return 1.0f / sqrtf(WarpSum(square) / static_cast<float>(2 * half) + epsilon);
}

// A warp for a head of a token: query heads, then key heads, then value heads, as they lie in memory. A thread turns
// kWide neighbours with those that are half a head further.
template <class T, int kWide, bool kNormed>
__global__ void CacheKvKernel(CacheKvArgs args) {
  const int64_t token = blockIdx.x;
  const int32_t head = static_cast<int32_t>(blockIdx.y) * kHeadsPerBlock + static_cast<int32_t>(threadIdx.y);
  const int32_t kv_heads = args.kv.kv_heads;
  const int32_t slot = args.slots[token];
  if (slot < 0 || head >= args.heads + 2 * kv_heads) return;
  const int32_t head_dim = args.kv.head_dim;
  const int32_t padded = args.kv.padded();
  const int32_t half = head_dim / 2;
  T* const from = static_cast<T*>(args.qkv) + token * args.qkv_stride + int64_t{head} * head_dim;
  const bool is_query = head < args.heads;
  const bool is_value = head >= args.heads + kv_heads;
  const int32_t lane = static_cast<int32_t>(threadIdx.x);

  T* to = from;
  if (!is_query) {
    const int32_t kv_head = is_value ? head - args.heads - kv_heads : head - args.heads;
    to = static_cast<T*>(args.kv.layer) + int64_t{slot / kKvBlockTokens} * args.kv.block_stride() +
         kv_head * args.kv.head_stride() + (is_value ? kKvBlockTokens * padded : 0) + slot % kKvBlockTokens * padded;
    for (int32_t i = head_dim + lane; i < padded; i += 32) to[i] = FromFloat<T>(0.0f);
  }
  if (is_value || args.angles == nullptr) {
    if (is_query) return;
    if constexpr (kWide == 2) {
      for (int32_t i = lane * 4; i < head_dim; i += 128) {
        *reinterpret_cast<uint2*>(to + i) = *reinterpret_cast<const uint2*>(from + i);
      }
    } else {
      for (int32_t i = lane; i < head_dim; i += 32) to[i] = from[i];
    }
    return;
  }
  const float* const cosines = args.angles + token * head_dim;
  const float* const sines = cosines + half;
  const float* const weight = is_query ? args.query_norm : args.key_norm;
  float scale = 1;
  if constexpr (kNormed) scale = HeadScale<T, kWide>(from, half, lane, args.norm_epsilon);
  for (int32_t i = lane * kWide; i < half; i += 32 * kWide) {
    if constexpr (kWide == 2) {
      float2 a = UnpackPair(*reinterpret_cast<const uint32_t*>(from + i), T{});
      float2 b = UnpackPair(*reinterpret_cast<const uint32_t*>(from + half + i), T{});
      if constexpr (kNormed) {
        const float2 v = *reinterpret_cast<const float2*>(weight + i);
        const float2 w = *reinterpret_cast<const float2*>(weight + half + i);
        a = make_float2(a.x * scale * v.x, a.y * scale * v.y);
        b = make_float2(b.x * scale * w.x, b.y * scale * w.y);
      }
      const float2 c = *reinterpret_cast<const float2*>(cosines + i);
      const float2 s = *reinterpret_cast<const float2*>(sines + i);
      *reinterpret_cast<uint32_t*>(to + i) = PackPair(a.x * c.x - b.x * s.x, a.y * c.y - b.y * s.y, T{});
      *reinterpret_cast<uint32_t*>(to + half + i) = PackPair(b.x * c.x + a.x * s.x, b.y * c.y + a.y * s.y, T{});
    } else {
      float a = ToFloat(from[i]);
      float b = ToFloat(from[half + i]);
      if constexpr (kNormed) {
        a *= scale * weight[i];
        b *= scale * weight[half + i];
      }
      to[i] = FromFloat<T>(a * cosines[i] - b * sines[i]);
      to[half + i] = FromFloat<T>(b * cosines[i] + a * sines[i]);
    }
  }
}

}  // namespace

absl::Status RopeAngles(const RopeAnglesArgs& args, cudaStream_t stream) {
  constexpr unsigned int kThreads = 128;
  return Launch("RopeAngles", &RopeAnglesKernel,
                {dim3(BlocksFor(args.tokens * (args.head_dim / 2), kThreads)), dim3(kThreads)}, stream, args);
}

absl::Status CacheKv(const CacheKvArgs& args, cudaStream_t stream) {
  return ForSixteenBits("CacheKv", args.kv.type, [&](auto type) {
    using T = decltype(type);
    const LaunchShape shape{
        dim3(static_cast<unsigned int>(args.tokens), BlocksFor(args.heads + 2 * args.kv.kv_heads, kHeadsPerBlock)),
        dim3(32, kHeadsPerBlock)};
    const bool wide = args.kv.head_dim % 4 == 0 && args.qkv_stride % 4 == 0 && AlignedTo(args.qkv, 8) &&
                      AlignedTo(args.kv.layer, 8) && AlignedTo(args.angles, 8) && AlignedTo(args.query_norm, 8) &&
                      AlignedTo(args.key_norm, 8);
    if (args.query_norm != nullptr) {
      return wide ? Launch("CacheKv", &CacheKvKernel<T, 2, true>, shape, stream, args)
                  : Launch("CacheKv", &CacheKvKernel<T, 1, true>, shape, stream, args);
    }
    return wide ? Launch("CacheKv", &CacheKvKernel<T, 2, false>, shape, stream, args)
                : Launch("CacheKv", &CacheKvKernel<T, 1, false>, shape, stream, args);
  });
}

}  // namespace tandem::worker::cuda
