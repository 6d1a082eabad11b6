// Elements of sixteen bits in kernels: to float32 and back, alone and in pairs, and the choice of a kernel by its type.
//
// Included by .cu files only.
#ifndef TANDEM_WORKER_CUDA_OPS_ELEMENT_H_
#define TANDEM_WORKER_CUDA_OPS_ELEMENT_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float ToFloat(__half x) { return __half2float(x); }

template <class T>
__device__ __forceinline__ T FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ __half FromFloat<__half>(float x) {
  return __float2half_rn(x);
}

// Two elements in one register, the first one in the lower half. The last argument says the type.
__device__ __forceinline__ uint32_t PackPair(float first, float second, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}
__device__ __forceinline__ uint32_t PackPair(float first, float second, __half) {
  const __half2 pair = __floats2half2_rn(first, second);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}
__device__ __forceinline__ float2 UnpackPair(uint32_t bits, __nv_bfloat16) {
  return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
}
__device__ __forceinline__ float2 UnpackPair(uint32_t bits, __half) {
  __half2 pair;
  memcpy(&pair, &bits, sizeof(bits));
  return __half22float2(pair);
}

// Four values that lie together. REQUIRES: aligned to all four.
__device__ __forceinline__ float4 LoadFour(const float* from) { return *reinterpret_cast<const float4*>(from); }
template <class T>
__device__ __forceinline__ float4 LoadFour(const T* from) {
  const uint2 bits = *reinterpret_cast<const uint2*>(from);
  const float2 a = UnpackPair(bits.x, T{});
  const float2 b = UnpackPair(bits.y, T{});
  return make_float4(a.x, a.y, b.x, b.y);
}
__device__ __forceinline__ void StoreFour(float* to, float4 x) { *reinterpret_cast<float4*>(to) = x; }
template <class T>
__device__ __forceinline__ void StoreFour(T* to, float4 x) {
  *reinterpret_cast<uint2*>(to) = make_uint2(PackPair(x.x, x.y, T{}), PackPair(x.z, x.w, T{}));
}

inline absl::Status NoKernelFor(const char* what, model::DType type) {
  return absl::InvalidArgumentError(absl::StrCat(what, " has no kernel for ", model::NameOf(type)));
}

// Calls f(T{}) with the element type, one of the two of sixteen bits.
template <class F>
absl::Status ForSixteenBits(const char* what, model::DType type, F f) {
  switch (type) {
    case model::DType::kBFloat16:
      return f(__nv_bfloat16{});
    case model::DType::kFloat16:
      return f(__half{});
    case model::DType::kFloat32:
      break;
  }
  return NoKernelFor(what, type);
}

// The same with all three.
template <class F>
absl::Status ForAnyElement(const char* what, model::DType type, F f) {
  return type == model::DType::kFloat32 ? f(float{}) : ForSixteenBits(what, type, f);
}

inline bool AlignedTo(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_ELEMENT_H_
