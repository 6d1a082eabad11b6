// How fast a model's groups make room for those that wait: the tokens of KV whose bookings were released, over the time
// in which somebody waited. Idle time does not count, since it says nothing of what the groups can do.
//
// Made for refusing what cannot be served in time, so it errs on the fast side: what is in flight counts as if it had
// all been computed within the measured time, and without enough data there is no answer at all. After a minute of
// waiting both sums are halved, so that the last minutes weigh most; a new replica makes it start anew.
#ifndef TANDEM_SCHEDULER_CORE_PACE_H_
#define TANDEM_SCHEDULER_CORE_PACE_H_

#include <cstdint>
#include <optional>

#include "scheduler/core/types.h"

namespace tandem::core {

struct Pace {
  Instant busy_since = kNever;  // somebody waits; up to here `busy` is counted
  Duration busy;
  Tokens released;
  int64_t releases = 0;

  // Somebody waits, or nobody does any more.
  void Watch(Instant now, bool waiting);
  void Released(Instant now, Tokens tokens);
  void Forget() { *this = {busy_since}; }

  // The least time in which bookings of `work` tokens are released, `in_flight` being what is booked now.
  std::optional<Duration> LeastTimeFor(Instant now, Tokens work, Tokens in_flight) const;

 private:
  void CountTo(Instant now);
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PACE_H_
