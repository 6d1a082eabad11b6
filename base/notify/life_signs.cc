#include "base/notify/life_signs.h"

#include <utility>

namespace tandem {

LifeSigns::LifeSigns(std::shared_ptr<const Notifier> notifier, Pulse::Ask ask)
    : notifier_(std::move(notifier)), pulse_(std::move(ask)) {
  notifier_->Tell(kNotifyReady);
  if (notifier_->watchdog()) thread_ = std::thread([this] { Run(); });
}

LifeSigns::~LifeSigns() {
  {
    std::lock_guard lock(mu_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void LifeSigns::Run() {
  std::unique_lock lock(mu_);
  while (!ends_) {
    lock.unlock();
    pulse_.Take([notifier = notifier_] { notifier->TellAlive(); });
    lock.lock();
    // Four chances before silence is taken for death.
    changed_.wait_for(lock, *notifier_->watchdog() / 4, [this] { return ends_; });
  }
}

}  // namespace tandem
