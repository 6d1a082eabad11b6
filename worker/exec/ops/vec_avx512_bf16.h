// The AVX-512 vector type with the instruction that multiplies pairs of bfloat16 and sums them in float.
//
// Twice the products per instruction, for inputs rounded to bfloat16: other bits than the variants that only fuse.
#ifndef TANDEM_WORKER_EXEC_OPS_VEC_AVX512_BF16_H_
#define TANDEM_WORKER_EXEC_OPS_VEC_AVX512_BF16_H_

#include <immintrin.h>

#include <cstdint>

#include "worker/exec/ops/vec_avx512.h"

namespace tandem::worker {

struct Avx512Bf16Vec : Avx512Vec {
  static constexpr bool kDotsPairs = true;

  static Reg DotPairs(Reg x, const uint16_t* w, Reg c) {
    const __m512i weights = _mm512_loadu_si512(w);
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(x), (__m512bh)weights);
  }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_VEC_AVX512_BF16_H_
