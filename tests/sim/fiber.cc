#include "tests/sim/fiber.h"

#include <glog/logging.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include <utility>
#include <vector>

namespace tandem::sim {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // A message of glog takes 30,000 of them.

Fiber* running = nullptr;

// AddressSanitizer keeps its own idea of the stack, and has to be told. `kept` is what it needs to find back.
#if defined(__SANITIZE_ADDRESS__)
void LeaveStack(void** kept, const void* bottom, size_t size) { __sanitizer_start_switch_fiber(kept, bottom, size); }
void EnterStack(void* kept, const void** from, size_t* size) { __sanitizer_finish_switch_fiber(kept, from, size); }
#else
void LeaveStack(void**, const void*, size_t) {}
void EnterStack(void*, const void**, size_t*) {}
#endif

// Stacks are used again: a run makes thousands of short-lived workers.
std::vector<std::unique_ptr<char[]>>& Spare() {
  static auto* const spare = new std::vector<std::unique_ptr<char[]>>;
  return *spare;
}

}  // namespace

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)) {
  if (Spare().empty()) {
    stack_.reset(new char[kStackBytes]);
  } else {
    stack_ = std::move(Spare().back());
    Spare().pop_back();
  }
  CHECK_EQ(getcontext(&own_), 0);
  own_.uc_stack.ss_sp = stack_.get();
  own_.uc_stack.ss_size = kStackBytes;
  own_.uc_link = &caller_;
  makecontext(&own_, &Fiber::Enter, 0);
}

Fiber::~Fiber() {
  CHECK(done_) << "a fiber is destroyed while its body runs";
  Spare().push_back(std::move(stack_));
}

void Fiber::Enter() {
  Fiber* const self = running;
  EnterStack(nullptr, &self->caller_stack_, &self->caller_stack_size_);
  self->body_();
  self->done_ = true;
  LeaveStack(nullptr, self->caller_stack_, self->caller_stack_size_);
}

void Fiber::Resume() {
  CHECK(running == nullptr && !done_);
  running = this;
  void* kept = nullptr;
  LeaveStack(&kept, stack_.get(), kStackBytes);
  CHECK_EQ(swapcontext(&caller_, &own_), 0);
  EnterStack(kept, nullptr, nullptr);
  running = nullptr;
}

void Fiber::Suspend() {
  Fiber* const self = running;
  CHECK(self != nullptr);
  void* kept = nullptr;
  LeaveStack(&kept, self->caller_stack_, self->caller_stack_size_);
  CHECK_EQ(swapcontext(&self->own_, &self->caller_), 0);
  EnterStack(kept, &self->caller_stack_, &self->caller_stack_size_);
}

}  // namespace tandem::sim
