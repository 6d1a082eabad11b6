// A Fiber runs code that blocks (the worker's engine) inside the simulator's one thread: it has a stack of its own, and
// gives control back where it would wait.
//
// Resume() belongs to whoever is no fiber; Suspend() to the fiber that runs.
#ifndef TANDEM_TESTS_SIM_FIBER_H_
#define TANDEM_TESTS_SIM_FIBER_H_

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace tandem::sim {

class Fiber {
 public:
  explicit Fiber(std::function<void()> body);
  ~Fiber();  // REQUIRES: done().
  Fiber(const Fiber&) = delete;

  // Runs the body until it suspends or returns. REQUIRES: !done(), and no fiber runs.
  void Resume();
  static void Suspend();

  bool done() const { return done_; }

 private:
  static void Enter();

  const std::function<void()> body_;
  std::unique_ptr<char[]> stack_;
  ucontext_t own_, caller_;
  const void* caller_stack_ = nullptr;  // For AddressSanitizer.
  size_t caller_stack_size_ = 0;
  bool done_ = false;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_FIBER_H_
