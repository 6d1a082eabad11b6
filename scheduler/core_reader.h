// Looks at the core from another thread, in turns: the core's thread copies a piece between two of its steps, the
// reader waits for it, and makes whatever it makes of the copy itself. What was read in several turns is of several
// moments.
#ifndef TANDEM_SCHEDULER_CORE_READER_H_
#define TANDEM_SCHEDULER_CORE_READER_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/time/time.h"
#include "base/steady_wait.h"
#include "scheduler/core/core.h"

namespace tandem::scheduler {

class CoreReader {
 public:
  using Query = std::function<void(const core::Core&)>;
  // Has a query run on the core's thread, between two steps. False: the core is behind, or has stopped.
  using Post = std::function<bool(Query)>;

  // One turn may take `patience`, longer than which only a core that is stuck needs, and all together four times that.
  CoreReader(Post post, absl::Duration patience)
      : post_(std::move(post)), patience_(patience), until_(SteadyDeadline(4 * patience)) {}

  // What `take` makes of the core; nothing: it is behind, has stopped, or did not come round in time. `take` may run
  // after that, so it holds what it needs by value; it copies plain values, and few of them.
  template <typename Take>
  auto Ask(Take take) -> std::optional<std::invoke_result_t<Take, const core::Core&>> {
    using T = std::invoke_result_t<Take, const core::Core&>;
    struct Turn {
      std::optional<T> taken;  // the core's thread writes it before `done`, this one reads it behind
      SteadyNotification done;
    };
    const auto turn = std::make_shared<Turn>();
    const bool posted = post_([turn, take = std::move(take)](const core::Core& core) {
      turn->taken = take(core);
      turn->done.Notify();
    });
    const absl::Duration left = -SteadySince(until_);
    if (!posted || !turn->done.WaitFor(std::min(patience_, left))) return std::nullopt;
    return std::move(turn->taken);
  }

 private:
  const Post post_;
  const absl::Duration patience_;
  const SteadyTime until_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_CORE_READER_H_
