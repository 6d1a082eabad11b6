// The number that tells this run of the scheduler from all earlier ones of the installation.
//
// Raised at every start, before anything is said to anybody, and on disk before it is used: written beside the old one,
// synced, renamed over it, and the folder synced. A crash between two steps leaves the old number or the new one, never
// a third; a number that was raised and not used is no harm.
//
// The lock on the folder is held while a LeaderEpoch lives, and falls with the process however it dies.
#ifndef TANDEM_SCHEDULER_LEADER_EPOCH_H_
#define TANDEM_SCHEDULER_LEADER_EPOCH_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tandem::scheduler {

class LeaderEpoch {
 public:
  // Makes the folder where needed (mode 0700). FAILED_PRECONDITION: another scheduler holds it; DATA_LOSS: the stored
  // number cannot be read, and guessing one could let an old scheduler's word win.
  static absl::StatusOr<std::unique_ptr<LeaderEpoch>> Raise(const std::string& state_dir);
  ~LeaderEpoch();
  LeaderEpoch(const LeaderEpoch&) = delete;
  LeaderEpoch& operator=(const LeaderEpoch&) = delete;

  uint64_t value() const { return value_; }

 private:
  LeaderEpoch(int lock_fd, uint64_t value) : lock_fd_(lock_fd), value_(value) {}

  const int lock_fd_;
  const uint64_t value_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_LEADER_EPOCH_H_
