// One direction of a stream between two simulated machines: what is sent arrives in order, each message after a delay
// of its own. While the way is blocked it waits; when the stream is cut it is lost.
//
// Two lanes know nothing of each other, so what goes by different streams arrives in any order.
#ifndef TANDEM_TESTS_SIM_LANE_H_
#define TANDEM_TESTS_SIM_LANE_H_

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "tests/sim/world.h"

namespace tandem::sim {

class Lane : public std::enable_shared_from_this<Lane> {
 public:
  Lane(World* world, int64_t typical_delay_us) : world_(world), typical_delay_(typical_delay_us) {}

  void Send(std::function<void()> deliver) {
    if (cut_) return;
    // One message in fifty meets a queue somewhere.
    int64_t delay = 1 + world_->random().Below(2 * typical_delay_);
    if (world_->random().Chance(20)) delay *= 20;
    arrives_ = std::max(arrives_, world_->now() + delay);
    world_->After(arrives_ - world_->now(), [self = shared_from_this(), deliver = std::move(deliver)]() mutable {
      if (self->cut_) return;
      if (self->blocked_ || !self->held_.empty()) return self->held_.push_back(std::move(deliver));
      deliver();
    });
  }

  void Block() { blocked_ = true; }
  void Unblock() {
    blocked_ = false;
    while (!held_.empty() && !cut_ && !blocked_) {
      auto deliver = std::move(held_.front());
      held_.pop_front();
      deliver();
    }
  }
  void Cut() {
    cut_ = true;
    held_.clear();
  }
  bool cut() const { return cut_; }

 private:
  World* const world_;
  const int64_t typical_delay_;
  int64_t arrives_ = 0;
  bool blocked_ = false, cut_ = false;
  std::deque<std::function<void()>> held_;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_LANE_H_
