// The road of one request through the core, step by step, and what the core's edges promise. Whole situations are in
// tests/scenarios.
#include "scheduler/core/core.h"

#include <variant>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::core {
namespace {

template <typename T>
const T* First(const Actions& actions) {
  for (const Action& action : actions) {
    if (const T* found = std::get_if<T>(&action)) return found;
  }
  return nullptr;
}

constexpr Incarnation kProcess{7, 7};
constexpr RequestId kRequest{1, 2};

WorkerAttached Attached(uint32_t index) {
  WorkerAttached event;
  event.device.node = "box";
  event.device.index = index;
  event.device.memory_total = event.device.memory_budget = event.device.memory_free = {int64_t{8} << 30};
  event.incarnation = {kProcess.hi, index};
  return event;
}

ModelSpec Chat() {
  ModelSpec spec;
  spec.name = "chat";
  spec.tensor_parallel = 2;
  spec.max_model_len = 1024;
  spec.max_sequences = 8;
  spec.costs = {{2, "", {int64_t{1} << 30}, {1 << 16}}};
  return spec;
}

class CoreTest : public testing::Test {
 protected:
  Actions Step(const Event& event) { return core_.Step(now_ = now_ + Milliseconds(1), event); }

  // A group of two ranks, ready.
  void Serve() {
    Step(LeaderStarted{1, 2});
    Step(ModelConfigured{Chat()});
    Step(Attached(0));
    const Actions actions = Step(Attached(1));
    form_ = *First<FormGroup>(actions);
    Step(GroupFormed{{0}, form_.group, form_.epoch});
    load_ = *First<LoadModel>(Step(GroupFormed{{1}, form_.group, form_.epoch}));
    Step(ModelLoaded{{0}, form_.group, form_.epoch, {1 << 30}});
    Step(ModelLoaded{{1}, form_.group, form_.epoch, {1 << 30}});
    Step(GroupReady{{0}, form_.group, form_.epoch, 128, 16, 8, 1024, {1 << 27}, "cpu"});
  }

  RequestArrived Arrival() {
    RequestArrived event;
    event.request = kRequest;
    event.model = "chat";
    event.prompt = {100};
    event.max_tokens = Tokens{50};
    return event;
  }

  Core core_{CoreOptions{}};
  Instant now_{1000000};
  FormGroup form_;
  LoadModel load_;
};

TEST_F(CoreTest, ARequestGoesFromArrivalToItsEnd) {
  Serve();
  EXPECT_EQ(form_.members, (std::vector<DeviceId>{{0}, {1}}));
  EXPECT_EQ(form_.group.value, (uint64_t{1} << 32) + 1);
  EXPECT_EQ(load_.kv_min.value, int64_t{1024} << 16);

  const Actions assigned = Step(Arrival());
  const auto* assign = First<AssignRequest>(assigned);
  ASSERT_NE(assign, nullptr);
  EXPECT_EQ(assign->rank0, DeviceId{0});
  EXPECT_EQ(assign->max_tokens, Tokens{50});
  const Group* group = core_.state().Find(form_.group);
  EXPECT_EQ(group->kv.booked, Tokens{160});  // 150 in blocks of 16

  Step(RequestStarted{kRequest, assign->attempt, {0}});
  EXPECT_EQ(core_.state().Find(kRequest)->state, RequestState::kRunning);
  const Actions ended = Step(RequestEnded{kRequest, assign->attempt, EndedHow::kStopped, {30}, ""});
  ASSERT_NE(First<CompleteRequest>(ended), nullptr);
  EXPECT_EQ(group->kv.booked, Tokens{0});
  EXPECT_TRUE(core_.state().requests.empty());
  EXPECT_EQ(core_.state().Find(kRequest)->state, RequestState::kFinished);
}

TEST_F(CoreTest, AFallingClockIsClamped) {
  Serve();
  const Instant before = core_.state().now;
  core_.Step({5}, Ticked{});
  EXPECT_EQ(core_.state().now, before);
}

TEST_F(CoreTest, AStandstillOfTheCoreIsNotBlamedOnItsWorkers) {
  Serve();
  const Actions actions = core_.Step(now_ + Seconds(60), Ticked{});
  EXPECT_EQ(First<DropWorker>(actions), nullptr);
  EXPECT_EQ(core_.state().Find(form_.group)->state, GroupState::kReady);
}

TEST_F(CoreTest, ExplainAnswersForEveryNoun) {
  Serve();
  Step(Arrival());
  EXPECT_THAT((*core_.ExplainRequest(kRequest))[0], testing::HasSubstr("is ASSIGNED on groups/"));
  EXPECT_THAT((*core_.ExplainGroup(form_.group))[0], testing::HasSubstr("is READY for models/chat"));
  EXPECT_THAT((*core_.ExplainModel("chat"))[0], testing::HasSubstr("1 of 1 replica ready"));
  EXPECT_FALSE(core_.ExplainRequest({9, 9}).ok());
}

}  // namespace
}  // namespace tandem::core
