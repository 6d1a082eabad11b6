#include "worker/engine/abort_reach.h"

#include <utility>
#include <variant>

namespace tandem::worker {

void AbortReach::Heed(const Command& command, SteadyTime now) {
  std::lock_guard lock(mu_);
  if (const auto* abort = std::get_if<AbortGroup>(&command)) {
    if (group_ == abort->group) Interrupt(abort->reason, now);
  } else if (const auto* all = std::get_if<AbortEverything>(&command)) {
    Interrupt(all->reason, now);
  } else if (const auto* stop = std::get_if<Stop>(&command)) {
    if (!ready_) Interrupt(stop->reason, now);
  }
}

void AbortReach::Interrupt(absl::string_view reason, SteadyTime now) {
  if (!group_) return;
  if (!reason_) {
    reason_ = std::string(reason);
    aborted_at_ = now;
  }
  cancelled_ = true;
  if (channel_) channel_->Abort(reason);
}

void AbortReach::WakeFollower() {
  std::lock_guard lock(mu_);
  if (channel_ && channel_->plans() != nullptr) channel_->plans()->WakeSelf();
}

std::chrono::milliseconds AbortReach::Overdue(SteadyTime now) const {
  std::lock_guard lock(mu_);
  if (!reason_) return std::chrono::milliseconds(0);
  return std::chrono::duration_cast<std::chrono::milliseconds>(now - aborted_at_);
}

std::optional<GroupRef> AbortReach::Unready() const {
  std::lock_guard lock(mu_);
  return ready_ ? std::nullopt : group_;
}

void AbortReach::Enter(const GroupRef& group) {
  std::lock_guard lock(mu_);
  group_ = group;
  channel_.reset();
  ready_ = false;
  reason_.reset();
  cancelled_ = false;
}

void AbortReach::Reached(std::shared_ptr<GroupChannel> channel) {
  std::lock_guard lock(mu_);
  channel_ = std::move(channel);
  if (reason_) channel_->Abort(*reason_);
}

void AbortReach::Ready() {
  std::lock_guard lock(mu_);
  ready_ = true;
}

void AbortReach::Clear() {
  std::lock_guard lock(mu_);
  group_.reset();
  channel_.reset();
  ready_ = false;
  reason_.reset();
}

std::optional<std::string> AbortReach::reason() const {
  std::lock_guard lock(mu_);
  return reason_;
}

}  // namespace tandem::worker
