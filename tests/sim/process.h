// A Process is what a simulated worker's code runs in: it can wait, be frozen, and die.
//
// What it waits for inside (a peer, a plan, the end of a step) is a Sleep(), which another's Wake() or its own time
// ends. A frozen process stays where it is; what would have woken it does so when it thaws. A killed process falls
// through all its waits at once, so that its code comes to its end: whatever it says then, nobody hears.
#ifndef TANDEM_TESTS_SIM_PROCESS_H_
#define TANDEM_TESTS_SIM_PROCESS_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "tests/sim/fiber.h"
#include "tests/sim/world.h"

namespace tandem::sim {

class Process : public std::enable_shared_from_this<Process> {
 public:
  explicit Process(World* world) : world_(world) {}
  ~Process();

  void Start(std::function<void()> body);

  // ---- of its own code
  // Until Wake(), or for `us`.
  void Sleep(int64_t us);
  // Computes: nothing but time and death ends it.
  void Spend(int64_t us);

  // ---- of everybody else
  void Wake();
  void Freeze() { frozen_ = true; }
  void Thaw();
  void Kill();

  bool dead() const { return dead_; }
  bool frozen() const { return frozen_; }
  bool ended() const { return fiber_ == nullptr || fiber_->done(); }

 private:
  void ResumeSoon(uint64_t sleep);
  void Resume(uint64_t sleep);

  World* const world_;
  std::unique_ptr<Fiber> fiber_;
  uint64_t sleep_ = 0;  // Counts them: a wake for an earlier one comes too late.
  bool asleep_ = false;
  bool spending_ = false;
  bool woken_ = false;  // While it was awake, or computed: the next Sleep() is none.
  bool frozen_ = false;
  bool due_ = false;  // While it was frozen.
  bool dead_ = false;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_PROCESS_H_
