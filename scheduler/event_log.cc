#include "scheduler/event_log.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::scheduler {

std::string SequenceText(uint64_t sequence) { return absl::StrCat(sequence >> 32, ".", sequence & 0xffffffff); }

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

uint64_t EventLog::oldest_sequence() const {
  absl::MutexLock lock(&mu_);
  return events_.empty() ? next_sequence_ : events_.front().sequence;
}

absl::Status EventLog::Read(uint64_t sequence, size_t most, std::vector<LoggedEvent>* out) const {
  absl::MutexLock lock(&mu_);
  const uint64_t oldest = events_.empty() ? next_sequence_ : events_.front().sequence;
  if (sequence < oldest) {
    return absl::NotFoundError(absl::StrCat("event ", SequenceText(sequence), " is no longer kept; the oldest is ",
                                            SequenceText(oldest), " (", oldest, ")"));
  }
  if (sequence > next_sequence_) {
    return absl::NotFoundError(absl::StrCat("event ", SequenceText(sequence), " has not happened; the next will be ",
                                            SequenceText(next_sequence_), " (", next_sequence_, ")"));
  }
  for (uint64_t i = sequence - oldest; i < events_.size() && out->size() < most; ++i) out->push_back(events_[i]);
  return absl::OkStatus();
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
