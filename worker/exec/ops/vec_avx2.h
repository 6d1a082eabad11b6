// Eight floats in an AVX2 register, with fused multiply-add. The vector type of vec_generic.h.
#ifndef TANDEM_WORKER_EXEC_OPS_VEC_AVX2_H_
#define TANDEM_WORKER_EXEC_OPS_VEC_AVX2_H_

#include <immintrin.h>

#include <cstdint>

namespace tandem::worker {

struct Avx2Vec {
  static constexpr int kLanes = 8;
  static constexpr int kRegistersOfOne = 8;
  static constexpr int kRegistersOfMany = 2;
  static constexpr bool kDotsPairs = false;
  static constexpr int kMaxRows = 6;
  using Reg = __m256;

  static Reg Zero() { return _mm256_setzero_ps(); }
  static Reg Broadcast(float x) { return _mm256_set1_ps(x); }
  static Reg Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, Reg r) { _mm256_storeu_ps(p, r); }
  static Reg LoadBf16(const uint16_t* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static Reg EvenBf16(const uint16_t* p) { return _mm256_castsi256_ps(_mm256_slli_epi32(LoadPairs(p), 16)); }
  static Reg OddBf16(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_and_si256(LoadPairs(p), _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static Reg Fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static Reg Add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg Sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static Reg Mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static Reg Div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
  static Reg Max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  static Reg Round(Reg x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Reg Scale2(Reg x, Reg n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  static Reg ZeroBelow(Reg x, Reg limit, Reg y) { return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), y); }

 private:
  static __m256i LoadPairs(const uint16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_VEC_AVX2_H_
