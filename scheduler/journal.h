// What the core was told, in order, so that a run can be stepped again elsewhere.
//
// One folder of segments, of bounded size and number; the oldest is removed first. A segment opens with the journal's
// format, the build and a dump of the core's state with its options, so that each replays alone; after it comes one
// event a line behind the time of its step. It holds counts, names and hashes, never a prompt.
//
// For the core's thread, which never waits for the disk: a thread of its own writes (journal_writer.h). A disk that is
// full, fails or stands still costs a stretch of the journal and not the service; what follows is a segment of its own.
#ifndef TANDEM_SCHEDULER_JOURNAL_H_
#define TANDEM_SCHEDULER_JOURNAL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/core/core.h"
#include "scheduler/journal_writer.h"

namespace tandem::scheduler {

class Journal {
 public:
  struct Options {
    std::string folder;
    std::string version;
    uint64_t leader_epoch = 0;  // segments are named by it: journal-7-3.log is the third of leader 7
    size_t segment_bytes = 16 << 20;
    int segments = 8;  // kept, of all runs together
  };

  // Makes the folder where needed.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(Options options);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Before the core's step with this event; `core` is as it was before it.
  void Append(core::Instant now, const core::Event& event, const core::Core& core);
  // Hands what was appended to the writer.
  void Flush();
  // Returns when what was appended is with the operating system, or lost. For tests and whoever is in no hurry.
  void Sync();

 private:
  explicit Journal(Options options);
  void BeginSegment(const core::Core& core);

  const Options options_;
  std::string buffer_;
  size_t written_ = 0;  // bytes of events in the open segment, buffered ones included
  JournalWriter writer_;
};

// Steps a core through one segment. `told` hears every step: its time, the event's line, and what the core asked for.
// An error names the line. The core that comes out is the one that the scheduler had.
using Told = std::function<void(core::Instant, const std::string& event, const core::Actions&)>;
absl::StatusOr<std::unique_ptr<core::Core>> Replay(const std::string& path, const Told& told);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_JOURNAL_H_
