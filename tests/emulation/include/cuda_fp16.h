// Stands in for CUDA's header of this name: half precision as storage, with the conversions that the kernels use.
#ifndef TANDEM_TESTS_EMULATION_INCLUDE_CUDA_FP16_H_
#define TANDEM_TESTS_EMULATION_INCLUDE_CUDA_FP16_H_

#include <cmath>
#include <cstdint>

#include "base/model/dtype.h"
#include "tests/emulation/vector_types.h"

struct alignas(2) __half {
  unsigned short x;
};
struct alignas(4) __half2 {
  __half x, y;
};

// Rounds to nearest, ties to even; what is too large becomes infinite.
inline __half __float2half_rn(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<unsigned short>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<unsigned short>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // A subnormal half: a whole number of 2^-24.
    const float steps = std::nearbyint(std::fabs(value) * 0x1p24f);
    return {static_cast<unsigned short>(sign | static_cast<uint32_t>(steps))};
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<unsigned short>(sign | ((rounded - 0x38000000u) >> 13))};
}
inline float __half2float(__half value) { return tandem::model::FloatFromFloat16(value.x); }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline float2 __half22float2(__half2 value) { return {__half2float(value.x), __half2float(value.y)}; }

#endif  // TANDEM_TESTS_EMULATION_INCLUDE_CUDA_FP16_H_
