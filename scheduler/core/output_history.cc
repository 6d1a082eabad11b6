#include "scheduler/core/output_history.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace tandem::core {
namespace {

// Bucket of n >= 1: the octave is its highest bit, the eighth its next three bits.
int BucketOf(int64_t n) {
  n = std::clamp<int64_t>(n, 1, (int64_t{1} << 21) - 1);
  const int octave = std::bit_width(static_cast<uint64_t>(n)) - 1;
  const int eighth = static_cast<int>(octave >= 3 ? (n >> (octave - 3)) & 7 : (n << (3 - octave)) & 7);
  return 8 * octave + eighth;
}

// The largest length that falls into the bucket.
int64_t UpperEnd(int bucket) {
  const int octave = bucket / 8, eighth = bucket % 8;
  const int64_t next = (int64_t{8} + eighth + 1) << octave;
  return std::max<int64_t>(1, (next + 7) / 8 - 1);
}

}  // namespace

void OutputHistory::Add(Tokens output) {
  ++counts_[BucketOf(output.value)];
  if (++total_ >= 1024) {
    for (uint32_t& count : counts_) count /= 2;
  }
  Recompute();
}

void OutputHistory::Restore(const std::array<uint32_t, kBuckets>& counts) {
  counts_ = counts;
  Recompute();
}

void OutputHistory::Recompute() {
  total_ = std::accumulate(counts_.begin(), counts_.end(), uint32_t{0});
  const uint32_t wanted = (total_ * 9 + 9) / 10;  // this many are no longer than the answer
  uint32_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += counts_[bucket];
    if (seen >= wanted && wanted > 0) {
      p90_ = {UpperEnd(bucket)};
      return;
    }
  }
}

}  // namespace tandem::core
