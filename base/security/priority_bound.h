// How far before others' a caller's requests may go: "highest_priority=N" behind whoever is let in, be it by a token, a
// certificate or an API key. In the scheduler's sense: the higher is served first.
#ifndef TANDEM_BASE_SECURITY_PRIORITY_BOUND_H_
#define TANDEM_BASE_SECURITY_PRIORITY_BOUND_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace tandem::security {

inline constexpr int32_t kHighestPriority = 100;  // of requests; the lowest is its negative

// "highest_priority=10". Nothing: some other word, or a number that no request can have.
std::optional<int32_t> ReadHighestPriority(absl::string_view word);

// What a request has that asks for `asked`, 0 where it asks for nothing: that, but not above a bound below 0. Nothing:
// it asks for more than it may.
std::optional<int32_t> PriorityWithin(int32_t highest, int32_t asked);

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_PRIORITY_BOUND_H_
