// The World is what all simulated things share: virtual time, the queue of what will happen, chance, the trace, and the
// first thing that went wrong.
//
// Time stands still while something happens and then jumps to what happens next; what is due at one instant happens in
// the order in which it was asked for. One thread, no other clock: a seed gives the same trace on every run.
#ifndef TANDEM_TESTS_SIM_WORLD_H_
#define TANDEM_TESTS_SIM_WORLD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/core/types.h"
#include "tests/sim/random.h"
#include "worker/engine/command.h"

namespace tandem::sim {

inline constexpr int64_t kMs = 1000;  // Simulated time is counted in microseconds.
inline constexpr int64_t kSecond = 1000 * kMs;

class World {
 public:
  // `print`: the trace goes to standard output, too.
  World(uint64_t seed, bool print);
  ~World();
  World(const World&) = delete;

  int64_t now() const { return now_.us; }
  core::Instant instant() const { return now_; }
  worker::SteadyTime steady() const { return worker::SteadyTime(std::chrono::microseconds(now_.us)); }

  // `what` happens `delay` from now. There is no way to take it back: it must look whether it still concerns anybody.
  void After(int64_t delay_us, std::function<void()> what);

  // Lets the next thing happen, if there is one before `until`; otherwise time is `until` and the answer false.
  bool Next(int64_t until);

  Random& random() { return random_; }

  // Every line goes into the hash: the same seed must say the same.
  void Trace(absl::string_view line);
  bool printing() const { return print_; }
  uint64_t hash() const { return hash_; }
  uint64_t events() const { return events_; }

  // Something that must never be. The first one is kept; the run ends with it.
  void Fail(const std::string& invariant);
  const std::string& failure() const { return failure_; }
  bool failed() const { return !failure_.empty(); }

  // What happened how often: a run that never met a case says nothing about it.
  void Count(const char* what, int64_t by = 1) { counts_[what] += by; }
  const std::map<std::string, int64_t>& counts() const { return counts_; }

 private:
  struct Due {
    int64_t at;
    uint64_t number;
    std::function<void()> what;
    bool operator<(const Due& other) const { return std::pair(at, number) > std::pair(other.at, other.number); }
  };

  core::Instant now_;
  Random random_;
  const bool print_;
  std::priority_queue<Due> due_;
  uint64_t asked_ = 0;
  uint64_t events_ = 0;
  uint64_t hash_ = 0xcbf29ce484222325u;
  std::string failure_;
  std::map<std::string, int64_t> counts_;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_WORLD_H_
