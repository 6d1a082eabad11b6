// Integer arithmetic that stops at the largest value: an estimate that is off the scale stays the worst one.
#ifndef TANDEM_PLACEMENT_PLANNER_SATURATING_H_
#define TANDEM_PLACEMENT_PLANNER_SATURATING_H_

#include <cstdint>
#include <limits>

namespace tandem::placement {

// Of values that are not negative.
inline int64_t Saturated(__int128 value) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  return value > kMost ? kMost : static_cast<int64_t>(value);
}
inline int64_t SaturatingAdd(int64_t a, int64_t b) { return Saturated(static_cast<__int128>(a) + b); }
inline int64_t SaturatingMultiply(int64_t a, int64_t b) { return Saturated(static_cast<__int128>(a) * b); }

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_SATURATING_H_
