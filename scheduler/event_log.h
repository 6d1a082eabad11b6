// What changed, for people: the latest sentences of the core and of the shell, numbered without gaps.
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
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/types.h"

namespace tandem::scheduler {

struct LoggedEvent {
  uint64_t sequence = 0;  // from 1
  core::Instant at;
  std::string subject;
  std::string text;
};

class EventLog {
 public:
  static constexpr size_t kRemembered = 8192;

  void Append(std::string subject, std::string text, core::Instant at);

  uint64_t next_sequence() const;
  // Up to `most` events from `sequence` on. False when the first of them is no longer there; `*first` is the oldest.
  bool Read(uint64_t sequence, size_t most, std::vector<LoggedEvent>* out, uint64_t* first) const;
  // All that is remembered about one subject.
  std::vector<LoggedEvent> About(absl::string_view subject) const;

  // `wake` is called after every Append until Unwatch returns.
  using WatchId = uint64_t;
  WatchId Watch(std::function<void()> wake);
  void Unwatch(WatchId id);

 private:
  mutable absl::Mutex mu_;
  std::deque<LoggedEvent> events_ ABSL_GUARDED_BY(mu_);
  uint64_t next_sequence_ ABSL_GUARDED_BY(mu_) = 1;

  absl::Mutex
      watchers_mu_;  // held while waking, so that Unwatch waits for a wake under way; taken before mu_, never in
  std::map<WatchId, std::function<void()>> watchers_ ABSL_GUARDED_BY(watchers_mu_);
  WatchId next_watch_ ABSL_GUARDED_BY(watchers_mu_) = 1;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_EVENT_LOG_H_
