#include "scheduler/slow_clients.h"

#include <glog/logging.h>

#include <vector>

namespace tandem::scheduler {

void SlowClients::Watch(WatchedCall* call) {
  if (patience_.us <= 0) return;
  absl::MutexLock lock(&mu_);
  calls_.insert(call);
}

void SlowClients::Forget(WatchedCall* call) {
  if (patience_.us <= 0) return;
  absl::MutexLock lock(&mu_);
  calls_.erase(call);
}

void SlowClients::DropStalled(core::Instant now) {
  if (patience_.us <= 0) return;
  std::vector<std::shared_ptr<WatchedCall>> stalled;
  {
    absl::MutexLock lock(&mu_);
    for (WatchedCall* call : calls_) {
      const core::Instant since = call->writing_since();
      if (since != core::kNever && since + patience_ <= now) stalled.push_back(call->Keep());
    }
  }
  for (const auto& call : stalled) call->Drop();
  if (stalled.empty()) return;
  dropped_.fetch_add(stalled.size(), std::memory_order_relaxed);
  LOG(WARNING) << stalled.size() << " clients took no message for " << patience_.us / 1000000.0
               << " s: their calls are cancelled";
}

}  // namespace tandem::scheduler
