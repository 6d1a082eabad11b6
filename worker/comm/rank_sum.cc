#include "worker/comm/rank_sum.h"

#include <algorithm>

namespace tandem::worker {
namespace {

// 4 KiB of running sums stay in the L1 cache while the parts stream by.
constexpr size_t kBlock = 1024;

// The pragma tells the compiler what it can not see: `out` is one of the inputs or apart from both, so no element
// depends on an earlier one.
void Add(const float* a, const float* b, float* out, size_t count) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

}  // namespace

void SumInRankOrder(const float* const* parts, int ranks, float* out, size_t count) {
  if (ranks == 2) return Add(parts[0], parts[1], out, count);
  float sums[kBlock];
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t n = std::min(kBlock, count - begin);
    Add(parts[0] + begin, parts[1] + begin, sums, n);
    for (int r = 2; r < ranks - 1; ++r) Add(sums, parts[r] + begin, sums, n);
    Add(sums, parts[ranks - 1] + begin, out + begin, n);
  }
}

}  // namespace tandem::worker
