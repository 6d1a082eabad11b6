// What must hold of a simulated run whatever the policy: nothing is lost, nothing is faster than the step model, equal
// runs are equal, and the prefixes of a trace are found.
#include "simulate/simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "placement/files/read_topology.h"
#include "placement/planner/step_model.h"

namespace tandem::simulate {
namespace {

placement::Topology H100s(int devices) {
  placement::Topology topology;
  const auto hosts = placement::ParseTopology(
      "hosts:\n  - {name: box, gpu: H100, devices: " + std::to_string(devices) + ", memory: 80GiB, nvswitch: true}\n",
      "cluster.yaml");
  CHECK(hosts.ok()) << hosts.status();
  topology.hosts = *hosts;
  placement::NumberHosts(topology.hosts);
  return topology;
}

// `sessions` conversations whose prompts grow by a block of 512 tokens each turn.
std::vector<TraceRequest> Conversations(int sessions, int turns, int64_t gap_us) {
  std::vector<TraceRequest> trace;
  for (int turn = 0; turn < turns; ++turn) {
    for (int session = 0; session < sessions; ++session) {
      TraceRequest& request = trace.emplace_back();
      request.due_us = static_cast<int64_t>(trace.size() - 1) * gap_us;
      request.input_tokens = static_cast<uint32_t>(512 * (turn + 4) + 100);
      request.output_tokens = static_cast<uint32_t>(20 + session);
      for (int block = 0; block < turn + 4; ++block)
        request.blocks.push_back(static_cast<uint64_t>(session * 1000 + block));
    }
  }
  return trace;
}

ServedModel Model(const std::vector<TraceRequest>& trace) {
  int64_t longest = 0;
  for (const TraceRequest& request : trace) {
    longest = std::max(longest, int64_t{request.input_tokens} + request.output_tokens);
  }
  const auto model = DescribeModel({}, longest);
  CHECK(model.ok()) << model.status();
  return *model;
}

SimResult Replay(const std::vector<TraceRequest>& trace, int devices, const std::string& policy,
                 double load_factor = 1) {
  const auto result = Simulate(trace, H100s(devices), Model(trace), {.policy = policy, .load_factor = load_factor});
  CHECK(result.ok()) << result.status();
  return *result;
}

uint64_t Cached(const SimResult& result) {
  uint64_t tokens = 0;
  for (const SimOutcome& outcome : result.outcomes) tokens += outcome.cached_tokens;
  return tokens;
}

class EveryPolicy : public testing::TestWithParam<std::string> {};

TEST_P(EveryPolicy, LosesNoTokenAndIsNotFasterThanTheStepModel) {
  const auto trace = Conversations(12, 5, 20'000);
  const ServedModel model = Model(trace);
  const SimResult result = Replay(trace, 4, GetParam());
  EXPECT_EQ(result.groups, 4);
  const placement::StepGroup group{.chip = placement::FindChip("H100")};
  for (size_t i = 0; i < trace.size(); ++i) {
    const SimOutcome& outcome = result.outcomes[i];
    ASSERT_TRUE(outcome.completed) << outcome.reason;
    EXPECT_EQ(outcome.output_tokens, trace[i].output_tokens);
    EXPECT_LT(outcome.cached_tokens, trace[i].input_tokens) << "a last token is always computed";
    const int64_t fresh = trace[i].input_tokens - outcome.cached_tokens;
    const int64_t least = placement::StepNs(model.work, group, {.prefill_tokens = fresh}) / 1000;
    // Beside another prompt's piece a step counts both as of one size, which is a little short for attention.
    EXPECT_GE(outcome.first_us - outcome.due_us, least * 9 / 10) << "request " << i;
    EXPECT_GE(outcome.last_us, outcome.first_us);
  }
}

TEST_P(EveryPolicy, IsTheSameTwice) {
  const auto trace = Conversations(10, 4, 5'000);
  const SimResult one = Replay(trace, 4, GetParam()), two = Replay(trace, 4, GetParam());
  ASSERT_EQ(one.outcomes.size(), two.outcomes.size());
  for (size_t i = 0; i < trace.size(); ++i) {
    EXPECT_EQ(one.outcomes[i].first_us, two.outcomes[i].first_us);
    EXPECT_EQ(one.outcomes[i].last_us, two.outcomes[i].last_us);
    EXPECT_EQ(one.outcomes[i].group, two.outcomes[i].group);
    EXPECT_EQ(one.outcomes[i].cached_tokens, two.outcomes[i].cached_tokens);
  }
}

TEST_P(EveryPolicy, HasNothingToDecideWithOneGroup) {
  // Slow enough that nobody waits in the router: late binding is the one thing that one group leaves to decide.
  const auto trace = Conversations(6, 4, 100'000);
  const SimResult result = Replay(trace, 1, GetParam()), other = Replay(trace, 1, "round_robin");
  for (size_t i = 0; i < trace.size(); ++i) {
    EXPECT_EQ(result.outcomes[i].first_us, other.outcomes[i].first_us);
    EXPECT_EQ(result.outcomes[i].last_us, other.outcomes[i].last_us);
  }
}

TEST_P(EveryPolicy, RefusesWhatNoContextHolds) {
  auto trace = Conversations(2, 2, 1000);
  trace[1].input_tokens = 200'000;
  const SimResult result = Replay(trace, 2, GetParam());
  EXPECT_EQ(result.outcomes[1].reason, "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_EQ(std::count_if(result.outcomes.begin(), result.outcomes.end(), [](const auto& o) { return o.completed; }),
            3);
}

INSTANTIATE_TEST_SUITE_P(Simulation, EveryPolicy,
                         testing::Values("default", "round_robin", "least_requests", "power_of_two",
                                         "sglang_cache_aware", "dynamo_kv"),
                         [](const auto& param) { return param.param; });

TEST(Simulation, OneGroupFindsEveryPrefixOfAConversation) {
  const auto trace = Conversations(3, 4, 500'000);
  const SimResult result = Replay(trace, 1, "round_robin");
  for (size_t i = 0; i < trace.size(); ++i) {
    const uint32_t before = i < 3 ? 0 : 512 * static_cast<uint32_t>(i / 3 + 3);
    EXPECT_EQ(result.outcomes[i].cached_tokens, before) << "request " << i;
  }
}

TEST(Simulation, WithoutBlocksNothingIsShared) {
  auto trace = Conversations(8, 4, 10'000);
  for (TraceRequest& request : trace) request.blocks.clear();
  EXPECT_EQ(Cached(Replay(trace, 2, "default")), 0u);
  EXPECT_EQ(Cached(Replay(trace, 2, "sglang_cache_aware")), 0u);
}

TEST(Simulation, WhoFollowsPrefixesFindsMoreOfThem) {
  // Five conversations over four groups: going round sends each turn elsewhere.
  const auto trace = Conversations(5, 8, 200'000);
  const uint64_t blind = Cached(Replay(trace, 4, "round_robin"));
  EXPECT_GT(Cached(Replay(trace, 4, "dynamo_kv")), 2 * blind);
  EXPECT_GT(Cached(Replay(trace, 4, "sglang_cache_aware")), 2 * blind);
}

TEST(Simulation, MoreLoadIsNotFaster) {
  const auto trace = Conversations(40, 4, 20'000);
  const auto mean = [&](double factor) {
    int64_t sum = 0;
    for (const SimOutcome& outcome : Replay(trace, 2, "least_requests", factor).outcomes) {
      sum += outcome.first_us - outcome.due_us;
    }
    return sum;
  };
  EXPECT_LE(mean(1), mean(4));
  EXPECT_LE(mean(4), mean(16));
}

TEST(Simulation, TooLittleMemoryPreemptsAndLosesNothing) {
  // Prompts fit, but their answers outgrow the pool.
  std::vector<TraceRequest> trace(60, {.input_tokens = 3000, .output_tokens = 1500});
  ModelChoice choice;
  const auto model = DescribeModel(choice, 4500);
  ASSERT_TRUE(model.ok());
  placement::Topology topology = H100s(1);
  topology.hosts[0].devices[0].memory_total = int64_t{28} << 30;
  const auto result = Simulate(trace, topology, *model, {.policy = "round_robin", .replicas = 1});
  ASSERT_TRUE(result.ok()) << result.status();
  uint64_t preemptions = 0;
  for (const SimOutcome& outcome : result->outcomes) {
    EXPECT_TRUE(outcome.completed);
    EXPECT_EQ(outcome.output_tokens, 1500u);
    preemptions += outcome.preemptions;
  }
  EXPECT_GT(preemptions, 0u);
}

TEST(Simulation, AModelWithoutRoomIsRefusedWithNumbers) {
  const auto trace = Conversations(1, 1, 1);
  const auto model = DescribeModel({.name = "llama-3.1-70b"}, 5000);
  ASSERT_TRUE(model.ok());
  const auto result = Simulate(trace, H100s(1), *model, {});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(result.status().message()), testing::HasSubstr("needs"));
}

TEST(Simulation, TheFleetHasTheDegreeThatAutoTakes) {
  const auto trace = Conversations(1, 1, 1);
  const auto model = DescribeModel({.name = "llama-3.1-70b"}, 5000);
  const auto result = Simulate(trace, H100s(8), *model, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->tensor_parallel, 1);
  EXPECT_EQ(result->groups, 8 / result->tensor_parallel);
}

}  // namespace
}  // namespace tandem::simulate
