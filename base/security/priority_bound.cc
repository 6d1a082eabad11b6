#include "base/security/priority_bound.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace tandem::security {

std::optional<int32_t> ReadHighestPriority(absl::string_view word) {
  int32_t highest = 0;
  if (!absl::ConsumePrefix(&word, "highest_priority=") || !absl::SimpleAtoi(word, &highest)) return std::nullopt;
  if (highest < -kHighestPriority || highest > kHighestPriority) return std::nullopt;
  return highest;
}

std::optional<int32_t> PriorityWithin(int32_t highest, int32_t asked) {
  if (asked == 0) return std::min(highest, 0);
  if (asked > highest) return std::nullopt;
  return asked;
}

}  // namespace tandem::security
