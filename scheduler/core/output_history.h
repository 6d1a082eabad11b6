// How long the outputs of a model turn out to be: a running 90th percentile, for bookings (DESIGN 16).
//
// Lengths fall into buckets an eighth of an octave wide, so an answer is at most an eighth too high and the memory is
// fixed. When 1,024 are counted all counts are halved: what ended lately weighs most. Integers only, so equal histories
// give equal bookings on every machine.
#ifndef TANDEM_SCHEDULER_CORE_OUTPUT_HISTORY_H_
#define TANDEM_SCHEDULER_CORE_OUTPUT_HISTORY_H_

#include <array>
#include <cstdint>

#include "scheduler/core/types.h"

namespace tandem::core {

class OutputHistory {
 public:
  static constexpr int kBuckets = 8 * 21;  // up to 2^21 tokens; longer ones count as that
  static constexpr uint32_t kEnough = 16;  // fewer say nothing about a 90th percentile

  void Add(Tokens output);

  // The 90th percentile, or `before_data` while fewer than kEnough requests have ended.
  Tokens P90(Tokens before_data) const { return total_ < kEnough ? before_data : p90_; }

  // For the dump of the state.
  const std::array<uint32_t, kBuckets>& counts() const { return counts_; }
  void Restore(const std::array<uint32_t, kBuckets>& counts);

 private:
  void Recompute();

  std::array<uint32_t, kBuckets> counts_ = {};
  uint32_t total_ = 0;
  Tokens p90_;
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_OUTPUT_HISTORY_H_
