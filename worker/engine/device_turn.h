// Who of a device's shards may compute: one at a time, the group of several ranks first (DESIGN 5).
//
// A step of a group of several ranks holds up every other rank of it, so it goes before those of single ranks, which
// fill the gaps. But a group that is never idle leaves no gaps: whoever has been passed over kMostPassed times goes
// next. So a single rank gets at least one step in kMostPassed + 1, and delays the others by one step of its own, which
// the batcher cuts to the step budget.
//
// No cycle can come of it: a device is in at most one group of several ranks, and a single rank waits for nobody while
// it has the turn. Any thread.
#ifndef TANDEM_WORKER_ENGINE_DEVICE_TURN_H_
#define TANDEM_WORKER_ENGINE_DEVICE_TURN_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>

namespace tandem::worker {

class DeviceTurn {
 public:
  static constexpr int kMostPassed = 4;

  // False: not within `patience`; the place in the line is given up. `first`: of a group of several ranks.
  bool Take(bool first, std::chrono::milliseconds patience);
  void Give();

  int waiting() const;

 private:
  struct Waiting {
    uint64_t ticket;
    bool first;
    int passed;  // times that one that came later went before
  };
  // Who goes next. REQUIRES: somebody waits; mu_ is held.
  std::deque<Waiting>::iterator Next();

  mutable std::mutex mu_;
  std::condition_variable given_;
  bool taken_ = false;           // Guarded by mu_, as are:
  std::deque<Waiting> waiting_;  // in order of coming
  uint64_t last_ticket_ = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_DEVICE_TURN_H_
