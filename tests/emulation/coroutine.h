// A Coroutine is one emulated thread's way through a kernel: a stack of its own and a switch of some nanoseconds.
//
// tests/sim/fiber.h does the same for a few long-lived engines through ucontext, which saves the signal mask with a
// system call at every switch; a block has hundreds of threads that switch at every shuffle.
//
// Belongs to one operating system thread.
#ifndef TANDEM_TESTS_EMULATION_COROUTINE_H_
#define TANDEM_TESTS_EMULATION_COROUTINE_H_

#include <cstddef>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace tandem::emulation {

class Coroutine {
 public:
  Coroutine();
  Coroutine(const Coroutine&) = delete;

  // Makes the next Resume call body(argument) from its beginning. A body that was suspended is forgotten where it
  // stands: its objects are not destroyed.
  void Prepare(void (*body)(void*), void* argument);

  // Runs until the body suspends or returns. REQUIRES: prepared, not done(), and no coroutine runs on this thread.
  void Resume();
  static void Suspend();

  bool done() const { return done_; }

 private:
  static void Enter();
  void SwitchIn();
  void SwitchOut();

  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool done_ = true;
  const std::unique_ptr<char[]> stack_;
#if defined(__x86_64__)
  void* own_ = nullptr;
  void* caller_ = nullptr;
#else
  ucontext_t own_, caller_;
#endif
  const void* caller_stack_ = nullptr;  // For AddressSanitizer.
  size_t caller_stack_size_ = 0;
};

}  // namespace tandem::emulation

#endif  // TANDEM_TESTS_EMULATION_COROUTINE_H_
