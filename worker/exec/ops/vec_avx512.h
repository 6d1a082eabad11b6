// Sixteen floats in an AVX-512 register, with fused multiply-add. The vector type of vec_generic.h.
#ifndef TANDEM_WORKER_EXEC_OPS_VEC_AVX512_H_
#define TANDEM_WORKER_EXEC_OPS_VEC_AVX512_H_

#include <immintrin.h>

#include <cstdint>

namespace tandem::worker {

struct Avx512Vec {
  static constexpr int kLanes = 16;
  static constexpr int kRegistersOfOne = 4;
  static constexpr int kRegistersOfMany = 4;
  static constexpr bool kDotsPairs = false;
  static constexpr int kMaxRows = 6;
  using Reg = __m512;

  static Reg Zero() { return _mm512_setzero_ps(); }
  static Reg Broadcast(float x) { return _mm512_set1_ps(x); }
  static Reg Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, Reg r) { _mm512_storeu_ps(p, r); }
  static Reg LoadBf16(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static Reg EvenBf16(const uint16_t* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
  static Reg OddBf16(const uint16_t* p) {
    const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), mask));
  }
  static Reg Fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static Reg Add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg Sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static Reg Mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static Reg Div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
  static Reg Max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
  static Reg Round(Reg x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Reg Scale2(Reg x, Reg n) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_mul_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)));
  }
  static Reg ZeroBelow(Reg x, Reg limit, Reg y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
  }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_VEC_AVX512_H_
