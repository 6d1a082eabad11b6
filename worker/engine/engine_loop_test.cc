#include "worker/engine/engine_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "worker/engine/fake_worker_for_test.h"

namespace tandem::worker {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kGroup = 7;
constexpr std::chrono::seconds kSoon{8};  // sooner than any limit would be over

class EngineLoopTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    for (int rank = 0; rank < GetParam(); ++rank) workers_.push_back(std::make_unique<FakeWorker>());
  }
  void TearDown() override {
    for (auto& worker : workers_) EXPECT_EQ(worker->mistakes(), "");
  }

  FakeWorker& leader() { return *workers_[0]; }
  FakeWorker& last() { return *workers_.back(); }

  GroupIdentity Identity(int rank, uint64_t group = kGroup) {
    GroupIdentity identity{.group_id = group,
                           .epoch = epoch_,
                           .rank = rank,
                           .size = static_cast<int>(workers_.size()),
                           .secret = {1, 2, 3},
                           .deadline = absl::Seconds(10)};
    for (auto& worker : workers_) identity.endpoints.push_back(worker->endpoint());
    return identity;
  }
  GroupRef ref() { return {.id = kGroup, .epoch = epoch_}; }

  void Form() {
    for (size_t r = 0; r < workers_.size(); ++r) workers_[r]->engine().Post(FormGroup{Identity(r)});
    for (auto& worker : workers_) ASSERT_TRUE(worker->Await<GroupFormed>());
  }
  void Load() {
    for (auto& worker : workers_) worker->engine().Post(LoadModel{ref(), spec_});
  }
  void FormAndLoad() {
    Form();
    Load();
    ASSERT_TRUE(leader().Await<GroupReady>());
    for (auto& worker : workers_) ASSERT_TRUE(worker->Await<ModelLoaded>());
  }
  void Assign(Request request) {
    requests_[request.id] = request;
    ASSERT_TRUE(leader().engine().Post(AssignRequest{ref(), std::move(request)}));
  }
  void ExpectReference(const AttemptId& id) {
    FakeWorker::Seen seen = leader().seen(id);
    std::vector<TokenId> want = FakeReference(requests_[id], spec_.max_model_len);
    if (seen.ended && seen.ended->how == Ended::How::kAborted) {
      ASSERT_LE(seen.output.size(), want.size());
      want.resize(seen.output.size());
    }
    EXPECT_EQ(seen.output, want) << id.ToString();
  }

  std::vector<std::unique_ptr<FakeWorker>> workers_;
  GroupEpoch epoch_{.leader = 1, .counter = 1};
  LoadSpec spec_{.model = "fake",
                 .max_model_len = 512,
                 .max_sequences = 8,
                 .max_batch_tokens = 64,
                 .kv_min_bytes = 64,
                 .kv_target_bytes = 64 * 64};
  std::map<AttemptId, Request> requests_;
};

INSTANTIATE_TEST_SUITE_P(Ranks, EngineLoopTest, ::testing::Values(1, 2, 4),
                         [](const auto& info) { return absl::StrFormat("of%d", info.param); });

TEST_P(EngineLoopTest, AGroupFormsLoadsServesAndDissolves) {
  FormAndLoad();
  Assign(Prompt(1, 100, 20));
  ASSERT_TRUE(leader().AwaitEnd(Id(1)));
  ExpectReference(Id(1));
  std::vector<ShardStatus> status = leader().engine().Status();
  ASSERT_EQ(status.size(), 1u);
  EXPECT_TRUE(status[0].ready);
  EXPECT_EQ(status[0].kv_blocks, 64);
  EXPECT_EQ(status[0].size, GetParam());

  for (auto& worker : workers_) worker->engine().Post(DissolveGroup{ref()});
  for (auto& worker : workers_) {
    EXPECT_TRUE(worker->Await<GroupLeft>());
    EXPECT_TRUE(worker->engine().Status().empty());
  }
  // Once more, under a new epoch.
  epoch_.counter = 2;
  FormAndLoad();
  Assign(Prompt(2, 10, 5));
  ASSERT_TRUE(leader().AwaitEnd(Id(2)));
  ExpectReference(Id(2));
}

TEST_P(EngineLoopTest, SixtyFourStreamsWithCancelsOnATinyPoolEndExactlyOnce) {
  spec_.kv_target_bytes = 20 * 64;  // 20 blocks for 8 sequences: preemption.
  spec_.max_batch_tokens = 40;
  FormAndLoad();
  std::mt19937 random(GetParam());
  for (uint32_t i = 1; i <= 64; ++i) {
    Request request = Prompt(1 + random() % 4, 1 + random() % 120, 1 + random() % 80);
    request.id = Id(i);
    request.ignore_eos = random() % 2 == 0;
    if (random() % 2 == 0) request.sampling = {.temperature = 0.7f, .top_p = 0.9f, .seed = random()};
    Assign(request);
    if (random() % 4 == 0) leader().engine().Post(AbortAttempt{ref(), Id(1 + random() % i), "test"});
  }
  int preempted = 0;
  for (uint32_t i = 1; i <= 64; ++i) {
    ASSERT_TRUE(leader().AwaitEnd(Id(i))) << i;
    EXPECT_NE(leader().seen(Id(i)).ended->how, Ended::How::kRefused);
    ExpectReference(Id(i));
    preempted += leader().seen(Id(i)).preempted;
  }
  EXPECT_GT(preempted, 0);
  // The end of a request is told before the step is counted, so its numbers may be a step behind.
  Assign(Prompt(65, 1, 1));
  ASSERT_TRUE(leader().AwaitEnd(Id(65)));
  for (auto& worker : workers_) worker->engine().Post(DissolveGroup{ref()});
  for (auto& worker : workers_) ASSERT_TRUE(worker->Await<GroupLeft>());
}

TEST_P(EngineLoopTest, ARankThatFailsTakesTheGroupDownAndSaysWhy) {
  std::atomic<int> steps_left{6};
  last().before_step = [&]() -> absl::Status {
    return --steps_left < 0 ? absl::InternalError("the device caught fire") : absl::OkStatus();
  };
  FormAndLoad();
  Assign(Prompt(1, 10, 400));
  std::optional<GroupFailed> cause = last().Await<GroupFailed>();
  ASSERT_TRUE(cause);
  EXPECT_EQ(cause->failure.reason, FailureReason::kEngineFault);
  EXPECT_EQ(cause->failure.message, "the device caught fire");
  for (size_t r = 0; r + 1 < workers_.size(); ++r) {
    std::optional<GroupFailed> echo = workers_[r]->Await<GroupFailed>(kSoon);
    ASSERT_TRUE(echo) << "rank " << r << " did not leave within 2 s";
    EXPECT_EQ(echo->failure.reason, FailureReason::kCommunicator);
    EXPECT_THAT(echo->failure.message, HasSubstr("the device caught fire"));
  }
  // All are free for the next epoch.
  steps_left = 1000;
  epoch_.counter = 2;
  FormAndLoad();
}

TEST_P(EngineLoopTest, AnAbortReachesAStepThatIsStuck) {
  if (GetParam() == 1) GTEST_SKIP() << "nobody to wait for";
  auto brake = std::make_shared<Brake>(3);
  last().before_step = [brake] { return brake->Pass(); };
  FormAndLoad();
  Assign(Prompt(1, 10, 400));
  ASSERT_TRUE(leader().AwaitTokens(Id(1), 2));  // One step is under way, which the last rank does not begin.
  leader().engine().Post(AbortGroup{ref(), "fenced"});
  std::optional<GroupFailed> failed = leader().Await<GroupFailed>(kSoon);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->failure.reason, FailureReason::kAborted);
  EXPECT_EQ(failed->failure.message, "fenced");
  brake->Release();
  EXPECT_TRUE(last().Await<GroupFailed>());
}

TEST_P(EngineLoopTest, AModelThatDoesNotLoadIsReportedByItsCode) {
  struct Case {
    absl::Status status;
    FailureReason reason;
  };
  for (const Case& c : {Case{absl::InvalidArgumentError("no such tensor"), FailureReason::kModelUnusable},
                        Case{absl::FailedPreconditionError("config.json differs"), FailureReason::kModelMismatch},
                        Case{absl::OutOfRangeError("too large"), FailureReason::kNeverFits},
                        Case{absl::ResourceExhaustedError("not now"), FailureReason::kNoCapacity}}) {
    last().loader = [&](Communicator*) { return c.status; };
    Form();
    Load();
    std::optional<GroupFailed> failed = last().Await<GroupFailed>();
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->failure.reason, c.reason);
    EXPECT_EQ(failed->failure.message, c.status.message());
    for (size_t r = 0; r + 1 < workers_.size(); ++r) EXPECT_TRUE(workers_[r]->Await<GroupFailed>());
    ++epoch_.counter;
  }
}

TEST_P(EngineLoopTest, ThePoolIsWhatThePoorestRankCanGive) {
  last().free_bytes = 17 * 64 + 63;
  Form();
  Load();
  std::optional<GroupReady> ready = leader().Await<GroupReady>();
  ASSERT_TRUE(ready);
  EXPECT_EQ(ready->kv_blocks, 17);
}

TEST_P(EngineLoopTest, TooLittleMemoryNamesTheNumbers) {
  spec_.kv_min_bytes = 10 * 64;
  last().free_bytes = 9 * 64;
  Form();
  Load();
  std::optional<GroupFailed> failed = last().Await<GroupFailed>();
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->failure.reason, FailureReason::kNoCapacity);
  EXPECT_THAT(failed->failure.message, HasSubstr("at least 640 bytes after loading, 576 are free"));
}

TEST_P(EngineLoopTest, StaleAndSurplusOrdersAreRefused) {
  epoch_.counter = 5;
  FormAndLoad();
  FakeWorker& worker = leader();

  if (GetParam() > 1) {
    worker.engine().Post(FormGroup{Identity(0, kGroup + 1)});
    EXPECT_EQ(worker.Await<GroupFailed>()->failure.reason, FailureReason::kBusy) << "one group of several ranks";
  }

  GroupIdentity old = Identity(0);
  old.epoch.counter = 4;
  worker.engine().Post(FormGroup{old});
  EXPECT_EQ(worker.Await<GroupFailed>()->failure.reason, FailureReason::kStaleEpoch);

  worker.engine().Post(ObeyLeader{.leader_epoch = 2, .retention = std::chrono::seconds(60)});
  GroupIdentity deposed = Identity(0, kGroup + 2);
  worker.engine().Post(FormGroup{deposed});
  std::optional<GroupFailed> refused = worker.Await<GroupFailed>();
  EXPECT_EQ(refused->failure.reason, FailureReason::kStaleEpoch);
  EXPECT_EQ(refused->failure.message, "the order is of leader epoch 1, this worker obeys 2");

  Request request = Prompt(1, 4, 4);
  worker.engine().Post(AssignRequest{{.id = kGroup, .epoch = {1, 4}}, request});
  EXPECT_EQ(worker.AwaitEnd(Id(1))->how, Ended::How::kRefused);

  worker.engine().Post(DissolveGroup{{.id = 99, .epoch = {1, 1}}});
  EXPECT_EQ(worker.Await<GroupLeft>()->group.id, 99u);

  Assign(Prompt(2, 10, 5));
  EXPECT_EQ(worker.AwaitEnd(Id(2))->how, Ended::How::kRefused);
  EXPECT_EQ(worker.seen(Id(2)).ended->message, "the order is of leader epoch 1, this worker obeys 2");

  // The group itself was not disturbed by any of this, and outlives its scheduler.
  Request next = Prompt(3, 10, 5);
  next.id.attempt.leader = 2;
  Assign(next);
  ASSERT_TRUE(worker.AwaitEnd(next.id));
  ExpectReference(next.id);
}

TEST_P(EngineLoopTest, AJoinThatIsAbortedEndsAtOnce) {
  if (GetParam() == 1) GTEST_SKIP() << "a group of one does not wait";
  leader().engine().Post(FormGroup{Identity(0)});
  leader().engine().Post(AbortGroup{ref(), "changed its mind"});
  std::optional<GroupFailed> failed = leader().Await<GroupFailed>(kSoon);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->failure.reason, FailureReason::kAborted);
}

TEST_P(EngineLoopTest, TheLogAnswersWhoeverLostTokens) {
  FormAndLoad();
  Assign(Prompt(1, 10, 30));
  ASSERT_TRUE(leader().AwaitEnd(Id(1)));
  std::vector<TokenId> output = leader().seen(Id(1)).output;

  std::vector<HeldRequest> held = leader().engine().Held(ref());
  ASSERT_EQ(held.size(), 1u);
  EXPECT_EQ(held[0].output_tokens, 30u);
  EXPECT_TRUE(held[0].ended);

  leader().Forget(Id(1));
  leader().engine().Post(ReplayEverything{});
  ASSERT_TRUE(leader().AwaitEnd(Id(1)));
  EXPECT_EQ(leader().seen(Id(1)).output, output);

  leader().engine().Post(ObeyLeader{.leader_epoch = 1, .retention = std::chrono::seconds(0)});
  leader().engine().Post(AcknowledgeEnd{{Id(1)}});
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!leader().engine().Held(ref()).empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(leader().engine().Held(ref()).empty());
}

TEST_P(EngineLoopTest, ALaterAttemptTakesThePlaceOfAnEarlierOne) {
  auto brake = std::make_shared<Brake>(6);
  leader().before_step = [brake] { return brake->Pass(); };
  FormAndLoad();
  Assign(Prompt(1, 10, 490));
  ASSERT_TRUE(leader().AwaitTokens(Id(1), 2));
  Request second = Prompt(1, 10, 8);
  second.id = Id(1, 2);
  Assign(second);
  brake->Release();
  ASSERT_TRUE(leader().AwaitEnd(Id(1)));
  EXPECT_EQ(leader().seen(Id(1)).ended->how, Ended::How::kAborted);
  ASSERT_TRUE(leader().AwaitEnd(Id(1, 2)));
  ExpectReference(Id(1, 2));
  // The first is not taken again.
  leader().engine().Post(AssignRequest{ref(), Prompt(1, 10, 8)});
  Assign(Prompt(3, 4, 2));
  ASSERT_TRUE(leader().AwaitEnd(Id(3)));
}

TEST_P(EngineLoopTest, TokensOutsideTheVocabularyAreRefusedAndHarmNobody) {
  FormAndLoad();
  Request request = Prompt(1, 4, 4);
  request.prompt[2] = kFakeVocab;
  Assign(request);
  std::optional<Ended> ended = leader().AwaitEnd(Id(1));
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->how, Ended::How::kRefused);
  EXPECT_EQ(ended->message, "token id 97 is not in the vocabulary of 97");
  Assign(Prompt(2, 4, 4));
  ASSERT_TRUE(leader().AwaitEnd(Id(2)));
  ExpectReference(Id(2));
}

TEST_P(EngineLoopTest, ALateRequestEndsByItsDeadlineWhileItRuns) {
  FormAndLoad();
  Request request = Prompt(1, 10, 500);
  request.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
  leader().before_step = nullptr;
  Assign(request);
  std::optional<Ended> ended = leader().AwaitEnd(Id(1));
  ASSERT_TRUE(ended);
  if (ended->how == Ended::How::kAborted) {
    EXPECT_THAT(ended->message, HasSubstr("deadline"));
  }
  ExpectReference(Id(1));
}

TEST_P(EngineLoopTest, AStopEndsTheThreadAndThePeersLeave) {
  FormAndLoad();
  Assign(Prompt(1, 10, 500));
  ASSERT_TRUE(leader().AwaitTokens(Id(1), 2));
  leader().engine().Post(Stop{"told to stop"});
  EXPECT_TRUE(leader().engine().WaitUntilStopped(std::chrono::seconds(5)));
  for (auto& worker : workers_) EXPECT_TRUE(worker->Await<GroupFailed>(kSoon));
}

TEST_P(EngineLoopTest, NonsenseLogitsFailTheGroupAndNotTheProcess) {
  class Nonsense final : public Executor {
   public:
    explicit Nonsense(Communicator* c) : inner_(c) {}
    const ModelFacts& facts() const override { return inner_.facts(); }
    MemoryReport memory() const override { return inner_.memory(); }
    const std::string& numerics_id() const override { return inner_.numerics_id(); }
    absl::Status AllocateKv(int32_t n) override { return inner_.AllocateKv(n); }
    absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
      absl::StatusOr<absl::Span<const float>> logits = inner_.Run(step);
      if (!logits.ok()) return logits;
      spoiled_.assign(logits->begin(), logits->end());
      if (++steps_ > 3 && !spoiled_.empty()) spoiled_[5] = std::nanf("");
      return spoiled_;
    }
    const std::atomic<uint64_t>& progress() const override { return inner_.progress(); }

   private:
    FakeExecutor inner_;
    int steps_ = 0;
    std::vector<float> spoiled_;
  };
  leader().loader = [](Communicator* c) { return std::make_unique<Nonsense>(c); };
  FormAndLoad();
  Assign(Prompt(1, 10, 50));
  std::optional<GroupFailed> failed = leader().Await<GroupFailed>();
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->failure.reason, FailureReason::kEngineFault);
  EXPECT_THAT(failed->failure.message, HasSubstr("logit of token 5"));
  for (size_t r = 1; r < workers_.size(); ++r) EXPECT_TRUE(workers_[r]->Await<GroupFailed>(kSoon));
}

}  // namespace
}  // namespace tandem::worker
