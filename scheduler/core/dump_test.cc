// What LoadState refuses. That a dump carries everything is shown under a storm in tests/core_random_test.cc.
#include "scheduler/core/dump.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/core/core.h"

namespace tandem::core {
namespace {

using testing::HasSubstr;

std::string SmallDump() {
  Core core{CoreOptions{}};
  core.Step({1}, LeaderStarted{1, 1});
  ModelSpec spec;
  spec.name = "chat";
  spec.max_model_len = 64;
  spec.max_sequences = 2;
  spec.costs = {{1, "", {1000}, {10}}};
  core.Step({2}, ModelConfigured{spec});
  WorkerAttached worker;
  worker.device.node = "box";
  worker.device.memory_total = worker.device.memory_budget = worker.device.memory_free = {1 << 20};
  core.Step({3}, worker);
  const GroupId group{uint64_t{1} << 32 | 1};
  core.Step({4}, GroupFormed{{0}, group, {1, 1}});
  core.Step({5}, GroupReady{{0}, group, {1, 1}, 8, 16, 2, 64, {100}, "cpu"});
  RequestArrived request;
  request.request = {3, 4};
  request.model = "chat";
  request.prompt = {10};
  request.deadline = Seconds(3);
  core.Step({6}, request);
  EXPECT_NE(core.state().Find(RequestId{3, 4}), nullptr);
  return DumpState(core.state());
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(DumpTest, LoadsWhatWasDumped) {
  const auto state = LoadState(SmallDump());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(DumpState(*state), SmallDump());
  EXPECT_EQ(state->requests.size(), 1u);
}

TEST(DumpTest, RefusesWhatItDidNotWrite) {
  const std::string dump = SmallDump();
  const auto message = [](const std::string& text) { return std::string(LoadState(text).status().message()); };
  EXPECT_THAT(message(""), HasSubstr("line 1: not a state of version 1"));
  EXPECT_THAT(message(Replaced(dump, "version=1", "version=2")), HasSubstr("not a state of version 1"));
  EXPECT_THAT(message(Replaced(dump, "\nrequest ", "\nrequirement ")), HasSubstr("no part of a state"));
  EXPECT_THAT(message(Replaced(dump, "members=[{device=d0", "members=[{device=d7")),
              HasSubstr("refers to what it does not hold"));
  EXPECT_THAT(message(Replaced(dump, "booked=64", "booked=48")), HasSubstr("inconsistent: "));
}

// Any truncation and any changed byte is refused or gives a state that holds together; nothing crashes.
TEST(DumpTest, DamageIsNeverFatal) {
  const std::string dump = SmallDump();
  for (size_t at = 0; at < dump.size(); at += 2) {
    (void)LoadState(dump.substr(0, at)).ok();
    for (char c : {'0', '9', '}', '-', '"'}) {
      std::string changed = dump;
      changed[at] = c;
      (void)LoadState(changed).ok();
    }
  }
}

}  // namespace
}  // namespace tandem::core
