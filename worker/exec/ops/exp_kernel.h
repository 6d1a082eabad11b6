// e^x over a vector type: x = n ln 2 + r with whole n and |r| <= ln 2 / 2, then 2^n times the Taylor sum of e^r.
//
// Eight terms leave 1e-8 of relative error, below float's own rounding. Values under -87 give exactly 0, so that a
// masked score of minus infinity weighs nothing.
#ifndef TANDEM_WORKER_EXEC_OPS_EXP_KERNEL_H_
#define TANDEM_WORKER_EXEC_OPS_EXP_KERNEL_H_

namespace tandem::worker {

template <class V>
inline __attribute__((always_inline)) typename V::Reg Exp(typename V::Reg x) {
  using Reg = typename V::Reg;
  const Reg lowest = V::Broadcast(-87.0f);
  const Reg highest = V::Broadcast(88.0f);
  // min(x, highest), spelled with the operations that every vector type has. NaN scores stay out of here: see Max.
  const Reg bounded = V::Sub(V::Zero(), V::Max(V::Sub(V::Zero(), V::Max(x, lowest)), V::Sub(V::Zero(), highest)));
  const Reg n = V::Round(V::Mul(bounded, V::Broadcast(1.44269504f)));
  // ln 2 in two parts; the first has few enough bits that n times it is exact.
  Reg r = V::Fma(n, V::Broadcast(-0.693359375f), bounded);
  r = V::Fma(n, V::Broadcast(2.12194440e-4f), r);
  Reg sum = V::Broadcast(1.0f / 5040);
  sum = V::Fma(sum, r, V::Broadcast(1.0f / 720));
  sum = V::Fma(sum, r, V::Broadcast(1.0f / 120));
  sum = V::Fma(sum, r, V::Broadcast(1.0f / 24));
  sum = V::Fma(sum, r, V::Broadcast(1.0f / 6));
  sum = V::Fma(sum, r, V::Broadcast(0.5f));
  sum = V::Fma(sum, r, V::Broadcast(1.0f));
  sum = V::Fma(sum, r, V::Broadcast(1.0f));
  return V::ZeroBelow(x, lowest, V::Scale2(sum, n));
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_EXP_KERNEL_H_
