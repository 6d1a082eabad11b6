#include "scheduler/event_log.h"

#include <algorithm>
#include <utility>

namespace tandem::scheduler {

void EventLog::Append(std::string subject, std::string text, core::Instant at) {
  {
    absl::MutexLock lock(&mu_);
    events_.push_back({next_sequence_++, at, std::move(subject), std::move(text)});
    if (events_.size() > kRemembered) events_.pop_front();
  }
  absl::MutexLock lock(&watchers_mu_);
  for (const auto& [id, wake] : watchers_) wake();
}

uint64_t EventLog::next_sequence() const {
  absl::MutexLock lock(&mu_);
  return next_sequence_;
}

bool EventLog::Read(uint64_t sequence, size_t most, std::vector<LoggedEvent>* out, uint64_t* first) const {
  absl::MutexLock lock(&mu_);
  *first = events_.empty() ? next_sequence_ : events_.front().sequence;
  if (sequence < *first) return false;
  for (uint64_t i = sequence - *first; i < events_.size() && out->size() < most; ++i) out->push_back(events_[i]);
  return true;
}

std::vector<LoggedEvent> EventLog::About(absl::string_view subject) const {
  absl::MutexLock lock(&mu_);
  std::vector<LoggedEvent> found;
  for (const LoggedEvent& event : events_) {
    if (event.subject == subject) found.push_back(event);
  }
  return found;
}

EventLog::WatchId EventLog::Watch(std::function<void()> wake) {
  absl::MutexLock lock(&watchers_mu_);
  watchers_[next_watch_] = std::move(wake);
  return next_watch_++;
}

void EventLog::Unwatch(WatchId id) {
  absl::MutexLock lock(&watchers_mu_);
  watchers_.erase(id);
}

}  // namespace tandem::scheduler
