// What changed, for people: the latest sentences of the core and of the shell, numbered without gaps.
//
// A number is the leader's epoch above 32 bits and a count below: so it names one event for good, and a reader that
// comes back to a scheduler that started anew is told that it missed something, instead of other events in the place of
// those it asked for.
//
// A ring: the oldest go when it is full. A reader asks from a number on and is told where what it asked for begins to
// be missing. Any thread may call; those who wait are woken after the lock is let go.
#ifndef TANDEM_SCHEDULER_EVENT_LOG_H_
#define TANDEM_SCHEDULER_EVENT_LOG_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/types.h"

namespace tandem::scheduler {

struct LoggedEvent {
  uint64_t sequence = 0;
  core::Instant at;
  std::string subject;
  std::string text;
};

// "3.17": the seventeenth of the third leader.
std::string SequenceText(uint64_t sequence);

class EventLog {
 public:
  static constexpr size_t kRemembered = 8192;
  static constexpr uint64_t kOldest = 1;  // less than any number: whatever is kept

  explicit EventLog(uint64_t leader_epoch) : next_sequence_(leader_epoch << 32 | 1) {}

  void Append(std::string subject, std::string text, core::Instant at);

  uint64_t next_sequence() const;
  uint64_t oldest_sequence() const;  // the next one where nothing is kept
  // Up to `most` events from `sequence` on. NOT_FOUND where the first of them is gone, or is further ahead than the
  // next one can be.
  absl::Status Read(uint64_t sequence, size_t most, std::vector<LoggedEvent>* out) const;

  // `wake` is called after every Append until Unwatch returns.
  using WatchId = uint64_t;
  WatchId Watch(std::function<void()> wake);
  void Unwatch(WatchId id);

 private:
  mutable absl::Mutex mu_;
  std::deque<LoggedEvent> events_ ABSL_GUARDED_BY(mu_);
  uint64_t next_sequence_ ABSL_GUARDED_BY(mu_);

  absl::Mutex
      watchers_mu_;  // held while waking, so that Unwatch waits for a wake under way; taken before mu_, never in
  std::map<WatchId, std::function<void()>> watchers_ ABSL_GUARDED_BY(watchers_mu_);
  WatchId next_watch_ ABSL_GUARDED_BY(watchers_mu_) = 1;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_EVENT_LOG_H_
