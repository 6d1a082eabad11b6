// The thread that writes the journal's segments: a disk that stands still holds up nobody who decides.
//
// Text comes in order; what comes within kGather goes into one write, so that a busy scheduler wakes this thread twenty
// times a second and not at every step. Written means handed to the operating system: it survives the process, not the
// machine; a process that is killed loses what came since the last write.
//
// Where the disk fails, or does not keep up with `most_waiting` bytes, the segment ends there, and after a pause
// another one may begin. Each end is one line in the log.
//
// Any thread may call; nobody but Sync and the destructor waits for the disk.
#ifndef TANDEM_SCHEDULER_JOURNAL_WRITER_H_
#define TANDEM_SCHEDULER_JOURNAL_WRITER_H_

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/steady_wait.h"

namespace tandem::scheduler {

class JournalWriter {
 public:
  static constexpr absl::Duration kGather = absl::Milliseconds(50);

  struct Options {
    std::string folder;
    uint64_t leader_epoch = 0;  // segments are named by it: journal-7-3.log is the third of leader 7
    int segments = 8;           // kept, of all runs together; the oldest is removed first
    size_t most_waiting = size_t{64} << 20;
    absl::Duration pause = absl::Minutes(1);
  };
  explicit JournalWriter(Options options);
  ~JournalWriter();  // writes what waits
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  // What it takes now: text of the open segment; or, where none is open, the beginning of one; or nothing.
  enum class Takes { kText, kSegment, kNothing };
  Takes takes() const;
  void BeginSegment(std::string text);
  void Append(absl::string_view text);  // lost where no segment is open
  // Returns when all that was taken is written or lost.
  void Sync();

 private:
  struct Piece {
    bool begins = false;
    std::string text;
  };

  void Run();
  // The error of the first piece that could not be written; empty: none.
  std::string WriteAll(const std::vector<Piece>& pieces);
  std::string OpenNext();
  void Close(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Post(Piece piece) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  int fd_ = -1, segment_ = 0;  // the thread's own, once it runs

  mutable absl::Mutex mu_;
  SteadyCondVar changed_;
  std::vector<Piece> waiting_ ABSL_GUARDED_BY(mu_);
  size_t waiting_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool open_ ABSL_GUARDED_BY(mu_) = false;
  SteadyTime again_at_ ABSL_GUARDED_BY(mu_);   // while none is open
  bool asleep_ ABSL_GUARDED_BY(mu_) = false;   // the thread, with nothing to write
  bool writing_ ABSL_GUARDED_BY(mu_) = false;  // the thread, what it has taken
  bool hurry_ ABSL_GUARDED_BY(mu_) = false;    // somebody waits in Sync
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_JOURNAL_WRITER_H_
