#include "tests/sim/fiber.h"

#include <glog/logging.h>

#include <utility>
#include <vector>

namespace tandem::sim {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // A message of glog takes 30,000 of them.

Fiber* running = nullptr;

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
  self->body_();
  self->done_ = true;
}

void Fiber::Resume() {
  CHECK(running == nullptr && !done_);
  running = this;
  CHECK_EQ(swapcontext(&caller_, &own_), 0);
  running = nullptr;
}

void Fiber::Suspend() {
  Fiber* const self = running;
  CHECK(self != nullptr);
  CHECK_EQ(swapcontext(&self->own_, &self->caller_), 0);
}

}  // namespace tandem::sim
