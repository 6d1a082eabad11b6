// Who waits for which drain. A drain belongs to the core and goes on when nobody waits any more.
//
// Any thread may call; a call's sink is used under this lock, so it must only store and post.
#ifndef TANDEM_SCHEDULER_DRAIN_CALLS_H_
#define TANDEM_SCHEDULER_DRAIN_CALLS_H_

#include <functional>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/action.h"

namespace tandem::scheduler {

class DrainCalls {
 public:
  using Sink = std::function<void(const core::ReportDrain&)>;

  // `sink` hears every report until one is done, or until Forget returns.
  core::OperationId Begin(Sink sink) {
    absl::MutexLock lock(&mu_);
    const core::OperationId id{++last_};
    sinks_[id] = std::move(sink);
    return id;
  }
  void Forget(core::OperationId id) {
    absl::MutexLock lock(&mu_);
    sinks_.erase(id);
  }
  void Report(const core::ReportDrain& report) {
    absl::MutexLock lock(&mu_);
    const auto it = sinks_.find(report.operation);
    if (it == sinks_.end()) return;
    it->second(report);
    if (report.done) sinks_.erase(it);
  }

 private:
  absl::Mutex mu_;
  uint64_t last_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<core::OperationId, Sink> sinks_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_DRAIN_CALLS_H_
