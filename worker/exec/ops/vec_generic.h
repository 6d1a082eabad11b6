// Four floats in the compiler's own vector type: runs on every CPU. Product and sum are rounded apart.
//
// A vector type for the kernel templates offers: kLanes, Reg; Zero, Broadcast, Load, Store; LoadBf16 of kLanes
// bfloat16; EvenBf16 and OddBf16 of kLanes pairs of them; Fma(a, b, c) = a * b + c, Add, Sub, Mul, Div, Max; Round to
// the nearest whole number, ties to even; Scale2(x, n) = x * 2^n for whole n in [-126, 127]; ZeroBelow(x, limit, y) = x
// < limit ? 0 : y.
#ifndef TANDEM_WORKER_EXEC_OPS_VEC_GENERIC_H_
#define TANDEM_WORKER_EXEC_OPS_VEC_GENERIC_H_

#include <cstdint>

namespace tandem::worker {

struct GenericVec {
  static constexpr int kLanes = 4;
  static constexpr int kRegistersOfOne = 4;   // registers across a panel when there is one row
  static constexpr int kRegistersOfMany = 2;  // and when there are several
  static constexpr bool kDotsPairs = false;
  static constexpr int kMaxRows = 4;
  using Reg = float __attribute__((vector_size(16)));
  using Int = int32_t __attribute__((vector_size(16)));
  using Half = uint16_t __attribute__((vector_size(8)));

  static Reg Zero() { return Reg{}; }
  static Reg Broadcast(float x) { return Reg{x, x, x, x}; }
  static Reg Load(const float* p) {
    Reg r;
    __builtin_memcpy(&r, p, sizeof(r));
    return r;
  }
  static void Store(float* p, Reg r) { __builtin_memcpy(p, &r, sizeof(r)); }
  static Reg LoadBf16(const uint16_t* p) {
    Half h;
    __builtin_memcpy(&h, p, sizeof(h));
    return reinterpret_cast<Reg>(__builtin_convertvector(h, Int) << 16);
  }
  static Reg EvenBf16(const uint16_t* p) { return reinterpret_cast<Reg>(LoadPairs(p) << 16); }
  static Reg OddBf16(const uint16_t* p) {
    return reinterpret_cast<Reg>(LoadPairs(p) & static_cast<int32_t>(0xffff0000u));
  }
  static Reg Fma(Reg a, Reg b, Reg c) { return a * b + c; }
  static Reg Add(Reg a, Reg b) { return a + b; }
  static Reg Sub(Reg a, Reg b) { return a - b; }
  static Reg Mul(Reg a, Reg b) { return a * b; }
  static Reg Div(Reg a, Reg b) { return a / b; }
  static Reg Max(Reg a, Reg b) { return a > b ? a : b; }
  static Reg Round(Reg x) {
    // Adding 1.5 * 2^23 leaves no bits for the fraction; good for |x| < 2^22.
    const Reg magic = Broadcast(12582912.0f);
    return (x + magic) - magic;
  }
  static Reg Scale2(Reg x, Reg n) {
    const Int exponent = (__builtin_convertvector(n, Int) + 127) << 23;
    return x * reinterpret_cast<Reg>(exponent);
  }
  static Reg ZeroBelow(Reg x, Reg limit, Reg y) { return x < limit ? Zero() : y; }

 private:
  static Int LoadPairs(const uint16_t* p) {
    Int r;
    __builtin_memcpy(&r, p, sizeof(r));
    return r;
  }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_VEC_GENERIC_H_
