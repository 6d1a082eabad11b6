// Stands in for CUDA's header of this name: bfloat16 as storage, with the conversions that the kernels use.
#ifndef TANDEM_TESTS_EMULATION_INCLUDE_CUDA_BF16_H_
#define TANDEM_TESTS_EMULATION_INCLUDE_CUDA_BF16_H_

#include "base/model/dtype.h"
#include "tests/emulation/vector_types.h"

struct alignas(2) __nv_bfloat16 {
  unsigned short x;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {tandem::model::BFloat16FromFloat(value)}; }
inline float __bfloat162float(__nv_bfloat16 value) { return tandem::model::FloatFromBFloat16(value.x); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 value) {
  return {__bfloat162float(value.x), __bfloat162float(value.y)};
}

#endif  // TANDEM_TESTS_EMULATION_INCLUDE_CUDA_BF16_H_
