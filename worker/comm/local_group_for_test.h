// Ranks as threads of one test: they share one mapping, so ThreadSanitizer sees what they do to each other. They hardly
// ever wake by themselves, so that a wake which somebody forgot shows as a missed deadline.
#ifndef TANDEM_WORKER_COMM_LOCAL_GROUP_FOR_TEST_H_
#define TANDEM_WORKER_COMM_LOCAL_GROUP_FOR_TEST_H_

#include <glog/logging.h>

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "worker/comm/group_member.h"

namespace tandem::worker {

class LocalGroup {
 public:
  explicit LocalGroup(int ranks, GroupShape shape = {},
                      std::chrono::microseconds spin_limit = WaitPolicy().spin_limit) {
    shape.ranks = static_cast<uint32_t>(ranks);
    const WaitPolicy policy{.spin_limit = spin_limit, .liveness_period = std::chrono::minutes(10)};
    absl::StatusOr<GroupMemory> memory = GroupMemory::Create(shape, 7, GroupEpoch{1, 1});
    CHECK(memory.ok()) << memory.status();
    memory_ = std::make_shared<GroupMemory>(*std::move(memory));
    for (int r = 0; r < ranks; ++r) {
      members_.push_back(std::make_shared<GroupMember>(memory_, r, PeerWatch(), policy));
    }
  }

  GroupMemory& memory() { return *memory_; }
  const std::shared_ptr<GroupMember>& member(int rank) { return members_[rank]; }

  // Runs `body` once per rank, side by side, and waits for all.
  void Run(const std::function<void(int rank)>& body) {
    std::vector<std::thread> threads;
    for (size_t r = 0; r < members_.size(); ++r) threads.emplace_back(body, static_cast<int>(r));
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::shared_ptr<GroupMemory> memory_;
  std::vector<std::shared_ptr<GroupMember>> members_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_LOCAL_GROUP_FOR_TEST_H_
