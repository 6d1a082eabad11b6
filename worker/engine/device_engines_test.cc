// Several groups on one device: one of two ranks, and single ranks beside it on either worker.
#include "worker/engine/device_engines.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <thread>

#include "worker/engine/fake_worker_for_test.h"

namespace tandem::worker {
namespace {

constexpr uint64_t kPair = 7;
constexpr uint64_t kSingle = 8;

class DeviceEnginesTest : public ::testing::Test {
 protected:
  void TearDown() override {
    for (FakeWorker& worker : workers_) EXPECT_EQ(worker.mistakes(), "");
  }

  // Ranks are workers in order; a single rank is on worker `first`.
  GroupIdentity Identity(uint64_t group, int rank, int size, int first = 0) {
    GroupIdentity identity{.group_id = group,
                           .epoch = {.leader = 1, .counter = 1},
                           .rank = rank,
                           .size = size,
                           .secret = {1, 2, 3},
                           .deadline = absl::Seconds(10)};
    for (int r = 0; r < size; ++r) identity.endpoints.push_back(workers_[first + r].endpoint());
    return identity;
  }
  static GroupRef Ref(uint64_t group) { return {.id = group, .epoch = {.leader = 1, .counter = 1}}; }

  void FormPair() {
    for (int rank : {0, 1}) workers_[rank].engine().Post(FormGroup{Identity(kPair, rank, 2)});
    for (FakeWorker& worker : workers_) ASSERT_TRUE(worker.Await<GroupFormed>());
    for (FakeWorker& worker : workers_) worker.engine().Post(LoadModel{Ref(kPair), spec_});
    for (FakeWorker& worker : workers_) ASSERT_TRUE(worker.Await<ModelLoaded>());
    ASSERT_TRUE(workers_[0].Await<GroupReady>());
  }
  // A single rank on worker `w`, as group kSingle + w.
  void FormSingle(int w) {
    workers_[w].engine().Post(FormGroup{Identity(kSingle + w, 0, 1, w)});
    ASSERT_TRUE(workers_[w].Await<GroupFormed>());
    workers_[w].engine().Post(LoadModel{Ref(kSingle + w), spec_});
    ASSERT_TRUE(workers_[w].Await<ModelLoaded>());
    ASSERT_TRUE(workers_[w].Await<GroupReady>());
  }
  void Assign(int w, uint64_t group, Request request) {
    requests_[request.id] = request;
    ASSERT_TRUE(workers_[w].engine().Post(AssignRequest{Ref(group), std::move(request)}));
  }
  void ExpectWhole(int w, const AttemptId& id) {
    ASSERT_TRUE(workers_[w].AwaitEnd(id)) << id.ToString();
    EXPECT_EQ(workers_[w].seen(id).output, FakeReference(requests_[id], static_cast<int32_t>(spec_.max_model_len)));
  }

  std::array<FakeWorker, 2> workers_;
  LoadSpec spec_{.model = "fake",
                 .max_model_len = 512,
                 .max_sequences = 8,
                 .max_batch_tokens = 64,
                 .kv_min_bytes = 64,
                 .kv_target_bytes = 64 * 64};
  std::map<AttemptId, Request> requests_;
};

TEST_F(DeviceEnginesTest, APairAndSinglesOnBothOfItsDevicesAnswerAtTheSameTime) {
  FormPair();
  FormSingle(0);
  FormSingle(1);
  EXPECT_EQ(workers_[0].engine().Status().size(), 2u);
  for (uint32_t i = 0; i < 8; ++i) {
    Assign(0, kPair, Prompt(100 + i, 40, 60));
    Assign(0, kSingle, Prompt(200 + i, 30, 50));
    Assign(1, kSingle + 1, Prompt(300 + i, 20, 40));
  }
  for (uint32_t i = 0; i < 8; ++i) {
    ExpectWhole(0, Id(100 + i));
    ExpectWhole(0, Id(200 + i));
    ExpectWhole(1, Id(300 + i));
  }
}

TEST_F(DeviceEnginesTest, OnlyOneShardComputesAtATime) {
  std::atomic<int> inside{0}, most{0};
  const auto step = [&]() -> absl::Status {
    const int now = ++inside;
    int seen = most;
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    std::this_thread::yield();
    --inside;
    return absl::OkStatus();
  };
  workers_[1].before_step = step;  // the pair's follower and a single rank
  FormPair();
  FormSingle(1);
  Assign(0, kPair, Prompt(1, 10, 200));
  Assign(1, kSingle + 1, Prompt(2, 10, 200));
  ExpectWhole(0, Id(1));
  ExpectWhole(1, Id(2));
  EXPECT_EQ(most, 1);
}

TEST_F(DeviceEnginesTest, AGroupThatEndsLeavesTheOthersAlone) {
  FormPair();
  FormSingle(0);
  Assign(0, kSingle, Prompt(1, 10, 300));
  for (FakeWorker& worker : workers_) worker.engine().Post(AbortGroup{Ref(kPair), "fenced"});
  for (FakeWorker& worker : workers_) {
    const auto failed = worker.Await<GroupFailed>();
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->group, Ref(kPair));
  }
  ExpectWhole(0, Id(1));
  ASSERT_EQ(workers_[0].engine().Status().size(), 1u);
  EXPECT_EQ(workers_[0].engine().Status()[0].group, Ref(kSingle));
}

TEST_F(DeviceEnginesTest, ALoadDoesNotHoldUpTheGroupThatServes) {
  FormPair();
  std::mutex mu;
  std::condition_variable changed;
  bool loading = false, go_on = false;
  workers_[0].loader = [&](Communicator* communicator) -> absl::StatusOr<std::unique_ptr<Executor>> {
    std::unique_lock lock(mu);
    loading = true;
    changed.notify_all();
    changed.wait(lock, [&] { return go_on; });
    return std::make_unique<FakeExecutor>(communicator, workers_[0].before_step);
  };
  workers_[0].engine().Post(FormGroup{Identity(kSingle, 0, 1)});
  workers_[0].engine().Post(LoadModel{Ref(kSingle), spec_});
  {
    std::unique_lock lock(mu);
    ASSERT_TRUE(changed.wait_for(lock, kPatience, [&] { return loading; }));
  }
  Assign(0, kPair, Prompt(1, 10, 50));
  ExpectWhole(0, Id(1));
  {
    std::lock_guard lock(mu);
    go_on = true;
    changed.notify_all();
  }
  EXPECT_TRUE(workers_[0].Await<GroupReady>());
}

TEST_F(DeviceEnginesTest, ASecondPairIsBusyAndAnOrderOfALostGroupIsStale) {
  FormPair();
  workers_[0].engine().Post(FormGroup{Identity(kPair + 5, 0, 2)});
  EXPECT_EQ(workers_[0].Await<GroupFailed>()->failure.reason, FailureReason::kBusy);
  FormSingle(0);
  workers_[0].engine().Post(DissolveGroup{Ref(kSingle)});
  ASSERT_TRUE(workers_[0].Await<GroupLeft>());
  workers_[0].engine().Post(FormGroup{Identity(kSingle, 0, 1)});
  EXPECT_EQ(workers_[0].Await<GroupFailed>()->failure.reason, FailureReason::kStaleEpoch) << "it was here before";
}

TEST_F(DeviceEnginesTest, EveryGroupReplaysOnANewLine) {
  FormPair();
  FormSingle(0);
  Assign(0, kPair, Prompt(1, 10, 5));
  Assign(0, kSingle, Prompt(2, 10, 5));
  ExpectWhole(0, Id(1));
  ExpectWhole(0, Id(2));
  for (uint32_t name : {1, 2}) workers_[0].Forget(Id(name));
  workers_[0].engine().Post(ReplayEverything{.line = 3});
  ExpectWhole(0, Id(1));
  ExpectWhole(0, Id(2));
  EXPECT_EQ(workers_[0].lines(), (std::set<uint64_t>{0, 3}));
  FormSingle(1);
}

}  // namespace
}  // namespace tandem::worker
