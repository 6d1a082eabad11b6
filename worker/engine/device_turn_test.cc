#include "worker/engine/device_turn.h"

#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tandem::worker {
namespace {

constexpr std::chrono::seconds kPatience{20};

// Shards that wait in a known order, and the order in which they got the turn.
class Line {
 public:
  ~Line() {
    for (std::thread& thread : threads_) thread.join();
  }
  void Join(const std::string& name, bool first) {
    const int before = turn_.waiting();
    threads_.emplace_back([this, name, first] {
      ASSERT_TRUE(turn_.Take(first, kPatience));
      {
        std::lock_guard lock(mu_);
        order_ += name;
      }
      turn_.Give();
    });
    while (turn_.waiting() == before) std::this_thread::yield();
  }
  std::string Order() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return order_;
  }
  DeviceTurn& turn() { return turn_; }

 private:
  DeviceTurn turn_;
  std::mutex mu_;
  std::string order_;
  std::vector<std::thread> threads_;
};

TEST(DeviceTurn, WhoIsAloneGoesAtOnce) {
  DeviceTurn turn;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(turn.Take(i % 2 == 0, std::chrono::milliseconds(0)));
    EXPECT_FALSE(turn.Take(true, std::chrono::milliseconds(1))) << "it is taken";
    turn.Give();
  }
  EXPECT_EQ(turn.waiting(), 0) << "who gave up left no hole";
}

TEST(DeviceTurn, TheGroupOfSeveralRanksGoesFirstAndTheOthersInOrder) {
  Line line;
  ASSERT_TRUE(line.turn().Take(false, kPatience));
  line.Join("a", false);
  line.Join("b", false);
  line.Join("P", true);
  line.turn().Give();
  EXPECT_EQ(line.Order(), "Pab");
}

TEST(DeviceTurn, NobodyIsPassedOverForEver) {
  Line line;
  ASSERT_TRUE(line.turn().Take(true, kPatience));
  line.Join("a", false);
  for (int i = 0; i < DeviceTurn::kMostPassed + 2; ++i) line.Join("P", true);
  line.turn().Give();
  EXPECT_EQ(line.Order(), "PPPPaPP");
}

}  // namespace
}  // namespace tandem::worker
