#include "tests/sim/world.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "scheduler/clock.h"

namespace tandem::sim {

// The first instant is not 0: a time of 0 means "not yet" here and there.
World::World(uint64_t seed, bool print) : now_{kSecond}, random_(seed), print_(print) {
  scheduler::simulated_now = &now_;
}

World::~World() { scheduler::simulated_now = nullptr; }

void World::After(int64_t delay_us, std::function<void()> what) {
  due_.push({now_.us + std::max<int64_t>(delay_us, 0), ++asked_, std::move(what)});
}

bool World::Next(int64_t until) {
  if (due_.empty() || due_.top().at > until) {
    now_.us = std::max(now_.us, until);
    return false;
  }
  CHECK_GE(due_.top().at, now_.us) << "simulated time went back";
  // The queue gives out constants only; what is moved away is popped at once.
  Due due = std::move(const_cast<Due&>(due_.top()));
  due_.pop();
  now_.us = due.at;
  ++events_;
  due.what();
  return true;
}

void World::Trace(absl::string_view line) {
  for (char c : line) hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  hash_ = (hash_ ^ static_cast<uint64_t>(now_.us)) * 0x100000001b3u;
  if (print_) {
    absl::PrintF("%10.6f  %s\n", static_cast<double>(now_.us) / kSecond, line);
    std::fflush(stdout);
  }
}

void World::Fail(const std::string& invariant) {
  if (failed()) return;
  failure_ = invariant;
  if (print_) absl::PrintF("%10.6f  BROKEN: %s\n", static_cast<double>(now_.us) / kSecond, invariant);
}

}  // namespace tandem::sim
