#include "tests/emulation/coroutine.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves what a call must preserve on this stack, leaves the stack's top in *save, and goes on from `load`.
extern "C" void tandem_emulation_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.type tandem_emulation_switch, @function
tandem_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tandem_emulation_switch, .-tandem_emulation_switch
)");
#endif

namespace tandem::emulation {
namespace {

// Kernels keep little on the stack; under AddressSanitizer every variable has a fence.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 128 << 10;
#else
constexpr size_t kStackBytes = 64 << 10;
#endif

thread_local Coroutine* running = nullptr;

#if defined(__SANITIZE_ADDRESS__)
void LeaveStack(void** kept, const void* bottom, size_t size) { __sanitizer_start_switch_fiber(kept, bottom, size); }
void EnterStack(void* kept, const void** from, size_t* size) { __sanitizer_finish_switch_fiber(kept, from, size); }
void ForgetStack(const void* stack, size_t size) { __asan_unpoison_memory_region(stack, size); }
#else
void LeaveStack(void**, const void*, size_t) {}
void EnterStack(void*, const void**, size_t*) {}
void ForgetStack(const void*, size_t) {}
#endif

}  // namespace

Coroutine::Coroutine() : stack_(new char[kStackBytes]) {}

void Coroutine::Prepare(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  if (!done_) ForgetStack(stack_.get(), kStackBytes);
  done_ = false;
#if defined(__x86_64__)
  // As tandem_emulation_switch would have left it: six registers, where to go on, and a return address that is never
  // used but keeps the stack aligned as after a call.
  const uintptr_t top = (reinterpret_cast<uintptr_t>(stack_.get()) + kStackBytes) & ~uintptr_t{15};
  void** const frame = reinterpret_cast<void**>(top) - 8;
  std::memset(frame, 0, 8 * sizeof(void*));
  frame[6] = reinterpret_cast<void*>(&Coroutine::Enter);
  own_ = frame;
#else
  if (getcontext(&own_) != 0) std::abort();
  own_.uc_stack.ss_sp = stack_.get();
  own_.uc_stack.ss_size = kStackBytes;
  own_.uc_link = nullptr;
  makecontext(&own_, &Coroutine::Enter, 0);
#endif
}

void Coroutine::Enter() {
  Coroutine* const self = running;
  EnterStack(nullptr, &self->caller_stack_, &self->caller_stack_size_);
  self->body_(self->argument_);
  self->done_ = true;
  LeaveStack(nullptr, self->caller_stack_, self->caller_stack_size_);
  self->SwitchOut();
  std::abort();  // Done coroutines are not resumed.
}

void Coroutine::SwitchIn() {
#if defined(__x86_64__)
  tandem_emulation_switch(&caller_, own_);
#else
  if (swapcontext(&caller_, &own_) != 0) std::abort();
#endif
}

void Coroutine::SwitchOut() {
#if defined(__x86_64__)
  tandem_emulation_switch(&own_, caller_);
#else
  if (swapcontext(&own_, &caller_) != 0) std::abort();
#endif
}

void Coroutine::Resume() {
  if (running != nullptr || done_) std::abort();
  running = this;
  void* kept = nullptr;
  LeaveStack(&kept, stack_.get(), kStackBytes);
  SwitchIn();
  EnterStack(kept, nullptr, nullptr);
  running = nullptr;
}

void Coroutine::Suspend() {
  Coroutine* const self = running;
  void* kept = nullptr;
  LeaveStack(&kept, self->caller_stack_, self->caller_stack_size_);
  self->SwitchOut();
  EnterStack(kept, &self->caller_stack_, &self->caller_stack_size_);
}

}  // namespace tandem::emulation
