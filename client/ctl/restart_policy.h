// When a child that ended is started again.
//
// The first time at once, for most deaths are single ones. After that each wait doubles, from half a second to 30 s,
// until the child has lived for half a minute. An exit code can say otherwise; the programs that are supervised give
// them this meaning, and any other code has none. Pure: the caller knows the time.
#ifndef TANDEM_CLIENT_CTL_RESTART_POLICY_H_
#define TANDEM_CLIENT_CTL_RESTART_POLICY_H_

#include <algorithm>
#include <optional>

#include "absl/time/time.h"

namespace tandem::client::ctl {

enum RestartCode {
  kNeverAgain = 2,  // as it was called it can never run: starting it again would only fill the log
  kNotAtOnce = 3,   // somebody refused it for now: even the first time after a wait
  kAtOnce = 4,      // it ended itself because it hung: nothing is won by waiting
};

class RestartPolicy {
 public:
  explicit RestartPolicy(absl::Duration first_wait = absl::Milliseconds(500),
                         absl::Duration most_wait = absl::Seconds(30), absl::Duration healthy = absl::Seconds(30))
      : first_wait_(first_wait), most_wait_(most_wait), healthy_(healthy) {}

  // How long to wait before the next start; nothing: never. `exit_code` is nothing where a signal ended it.
  std::optional<absl::Duration> AfterExit(absl::Duration lived, std::optional<int> exit_code) {
    if (exit_code == kNeverAgain) return std::nullopt;
    if (exit_code == kAtOnce) return absl::ZeroDuration();
    if (lived >= healthy_) next_wait_ = absl::ZeroDuration();
    if (exit_code == kNotAtOnce) next_wait_ = std::max(next_wait_, first_wait_);
    const absl::Duration wait = next_wait_;
    next_wait_ = wait == absl::ZeroDuration() ? first_wait_ : std::min(wait * 2, most_wait_);
    return wait;
  }

 private:
  absl::Duration first_wait_;
  absl::Duration most_wait_;
  absl::Duration healthy_;
  absl::Duration next_wait_ = absl::ZeroDuration();
};

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_RESTART_POLICY_H_
