#include "worker/engine/device_turn.h"

#include <algorithm>

namespace tandem::worker {

bool DeviceTurn::Take(bool first, std::chrono::milliseconds patience) {
  std::unique_lock lock(mu_);
  if (!taken_ && waiting_.empty()) return taken_ = true;  // nobody to be polite to: the way of a device with one shard
  const uint64_t ticket = ++last_ticket_;
  waiting_.push_back({ticket, first, 0});
  const bool mine = given_.wait_for(lock, patience, [&] { return !taken_ && Next()->ticket == ticket; });
  const auto place =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& each) { return each.ticket == ticket; });
  if (mine) {
    for (auto earlier = waiting_.begin(); earlier != place; ++earlier) ++earlier->passed;
    taken_ = true;
  }
  waiting_.erase(place);
  if (!mine) given_.notify_all();  // it may have been the next
  return mine;
}

void DeviceTurn::Give() {
  std::lock_guard lock(mu_);
  taken_ = false;
  if (!waiting_.empty()) given_.notify_all();
}

int DeviceTurn::waiting() const {
  std::lock_guard lock(mu_);
  return static_cast<int>(waiting_.size());
}

std::deque<DeviceTurn::Waiting>::iterator DeviceTurn::Next() {
  const auto patient =
      std::find_if(waiting_.begin(), waiting_.end(), [](const Waiting& each) { return each.passed >= kMostPassed; });
  if (patient != waiting_.end()) return patient;
  const auto first = std::find_if(waiting_.begin(), waiting_.end(), [](const Waiting& each) { return each.first; });
  return first != waiting_.end() ? first : waiting_.begin();
}

}  // namespace tandem::worker
