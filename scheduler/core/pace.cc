#include "scheduler/core/pace.h"

#include <algorithm>
#include <limits>

#include "absl/numeric/int128.h"

namespace tandem::core {
namespace {

constexpr Duration kLongEnough = Seconds(1);
constexpr int64_t kOftenEnough = 8;
constexpr Duration kMemory = Seconds(60);

}  // namespace

void Pace::CountTo(Instant now) {
  if (busy_since == kNever) return;
  busy.us += (now - busy_since).us;
  busy_since = now;
  if (busy <= kMemory) return;
  busy.us /= 2;
  released.value /= 2;
  releases /= 2;
}

void Pace::Watch(Instant now, bool waiting) {
  CountTo(now);
  busy_since = waiting ? now : kNever;
}

void Pace::Released(Instant now, Tokens tokens) {
  if (busy_since == kNever) return;
  CountTo(now);
  released += tokens;
  ++releases;
}

std::optional<Duration> Pace::LeastTimeFor(Instant now, Tokens work, Tokens in_flight) const {
  Duration time = busy;
  if (busy_since != kNever) time.us += (now - busy_since).us;
  const Tokens most = released + in_flight;
  if (time < kLongEnough || releases < kOftenEnough || most.value <= 0) return std::nullopt;
  const absl::uint128 us = absl::uint128(std::max<int64_t>(0, work.value)) * time.us / most.value;
  return Duration{static_cast<int64_t>(std::min<absl::uint128>(us, std::numeric_limits<int64_t>::max()))};
}

}  // namespace tandem::core
