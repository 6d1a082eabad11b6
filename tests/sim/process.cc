#include "tests/sim/process.h"

#include <glog/logging.h>

#include <utility>

namespace tandem::sim {

Process::~Process() { CHECK(ended()); }

void Process::Start(std::function<void()> body) {
  fiber_ = std::make_unique<Fiber>(std::move(body));
  asleep_ = true;
  ResumeSoon(++sleep_);
}

void Process::Sleep(int64_t us) {
  if (dead_ || std::exchange(woken_, false)) return;
  asleep_ = true;
  const uint64_t sleep = ++sleep_;
  world_->After(us, [self = weak_from_this(), sleep] {
    if (auto process = self.lock()) process->Resume(sleep);
  });
  Fiber::Suspend();
}

void Process::Spend(int64_t us) {
  if (dead_) return;
  spending_ = true;
  const bool woken = woken_;
  woken_ = false;
  Sleep(us);
  spending_ = false;
  woken_ |= woken;
}

void Process::Wake() {
  if (dead_ || ended()) return;
  if (!asleep_ || spending_) {
    woken_ = true;
    return;
  }
  ResumeSoon(sleep_);
}

void Process::ResumeSoon(uint64_t sleep) {
  world_->After(0, [self = weak_from_this(), sleep] {
    if (auto process = self.lock()) process->Resume(sleep);
  });
}

void Process::Resume(uint64_t sleep) {
  if (!asleep_ || sleep != sleep_ || dead_) return;
  if (frozen_) {
    due_ = true;
    return;
  }
  asleep_ = false;
  fiber_->Resume();
}

void Process::Thaw() {
  frozen_ = false;
  if (std::exchange(due_, false)) ResumeSoon(sleep_);
}

void Process::Kill() {
  dead_ = true;
  frozen_ = false;
  if (ended()) return;
  CHECK(asleep_) << "a process does not kill itself";
  asleep_ = false;
  fiber_->Resume();
  CHECK(ended()) << "a killed process waits";
}

}  // namespace tandem::sim
