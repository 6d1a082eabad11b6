// What a simulated device says, in one piece and in many, alone and in a group; and that it lets itself be stopped.
#include "worker/exec/sim_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/model/json_fields.h"
#include "nlohmann/json.hpp"
#include "worker/exec/hash_chain.h"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {
namespace {

using ::testing::HasSubstr;

// The model that ships: 2,000 tokens, of which 1999 ends a sequence.
constexpr int32_t kVocabulary = 2000;
const std::vector<TokenId> kEos = {1999};

std::vector<TokenId> Truth(const std::vector<TokenId>& prompt, size_t count) {
  uint64_t chain = kChainStart;
  int64_t position = 0;
  for (const TokenId token : prompt) chain = NextChain(chain, position++, token);
  std::vector<TokenId> output;
  while (output.size() < count) {
    output.push_back(TokenOfChain(chain, kVocabulary, kEos));
    chain = NextChain(chain, position++, output.back());
  }
  return output;
}

class SimExecutorTest : public testing::Test {
 protected:
  TestModel Load(int ranks, double speedup = 0) {
    return TestModel(
        [this, speedup](Communicator* communicator) {
          return LoadSimModel({.folder = SourcePath("models/tandem-tiny"),
                               .max_batch_tokens = 128,
                               .memory_limit_bytes = int64_t{1} << 30,
                               .chip = placement::FindChip("RTX3090"),
                               .speedup = speedup,
                               .memory = &memory_,
                               .faults = &faults_},
                              communicator);
        },
        ranks);
  }

  static std::vector<TokenId> Continue(TestModel& model, TestSequence& sequence, size_t count) {
    std::vector<TokenId> output;
    while (output.size() < count) {
      output.push_back(Best(model.Run({sequence.Next(sequence.left(), true)})[0]));
      sequence.tokens.push_back(output.back());
    }
    return output;
  }

  SimMemory memory_;
  SimFaults faults_;
};

TEST(HashChain, IsWhatTheGoldenFileSays) {
  const absl::StatusOr<std::string> text = model::ReadSmallFile(SourcePath("tests/golden/hash_chain.json"), 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  const nlohmann::json golden = nlohmann::json::parse(*text);
  ASSERT_GE(golden.at("cases").size(), 5u);
  for (const nlohmann::json& one : golden.at("cases")) {
    const auto eos = one.at("eos_ids").get<std::vector<TokenId>>();
    uint64_t chain = kChainStart;
    int64_t position = 0;
    for (const TokenId token : one.at("prompt")) chain = NextChain(chain, position++, token);
    EXPECT_EQ(absl::StrCat(absl::Hex(chain, absl::kZeroPad16)), one.at("chain_after_prompt"));
    for (const TokenId token : one.at("continuation")) {
      EXPECT_EQ(TokenOfChain(chain, one.at("vocabulary"), eos), token);
      chain = NextChain(chain, position++, token);
    }
  }
}

TEST_F(SimExecutorTest, SaysTheChainAloneAndInGroups) {
  for (const int ranks : {1, 2}) {
    TestModel model = Load(ranks);
    TestSequence sequence{{1, 2, 3}, 0, ScatteredBlocks(5, 10)};
    EXPECT_EQ(Continue(model, sequence, 40), Truth({1, 2, 3}, 40)) << ranks << " ranks";
    EXPECT_EQ(model.rank(0).numerics_id(), absl::StrCat("sim/RTX3090/tp", ranks));
  }
}

TEST_F(SimExecutorTest, ChunksAndNeighboursChangeNothing) {
  TestModel model = Load(1);
  std::vector<TokenId> prompt;
  for (int i = 0; i < 70; ++i) prompt.push_back(i * 31 % kVocabulary);
  TestSequence chunked{prompt, 0, ScatteredBlocks(1, 8)};
  TestSequence neighbour{{9, 8, 7}, 0, ScatteredBlocks(60, 2)};
  model.Run({chunked.Next(30, false), neighbour.Next(3, true)});
  model.Run({chunked.Next(39, false)});
  EXPECT_EQ(Continue(model, chunked, 20), Truth(prompt, 20));
}

TEST_F(SimExecutorTest, AWrongBlockOrTokenChangesAllThatFollows) {
  TestModel model = Load(1);
  const std::vector<TokenId> prompt = {4, 5, 6};
  TestSequence sequence{prompt, 0, ScatteredBlocks(5, 10)};
  Continue(model, sequence, 4);
  const std::vector<TokenId> truth = Truth(prompt, 30);
  const size_t done = sequence.tokens.size() - prompt.size();
  const std::vector<TokenId> rest(truth.begin() + static_cast<int64_t>(done), truth.end());

  TestSequence wrong_block = sequence;
  wrong_block.blocks[0] = 90;  // never written
  EXPECT_NE(Continue(model, wrong_block, rest.size()), rest);
  TestSequence lost_token = sequence;
  lost_token.tokens.back() = (lost_token.tokens.back() + 1) % kVocabulary;
  EXPECT_NE(Continue(model, lost_token, rest.size()), rest);
  TestSequence intact = sequence;
  EXPECT_EQ(Continue(model, intact, rest.size()), rest);
}

TEST_F(SimExecutorTest, MemoryIsCountedAndGivenBack) {
  {
    TestModel model = Load(2);
    const MemoryReport first = model.rank(0).memory();
    EXPECT_GT(first.packed_bytes, 0);
    EXPECT_EQ(first.kv_bytes, TestModel::kBlocks * model.rank(0).facts().kv_bytes_per_block);
    const MemoryReport second = model.rank(1).memory();
    EXPECT_EQ(memory_.taken(), first.packed_bytes + first.activation_bytes + first.kv_bytes + second.packed_bytes +
                                   second.activation_bytes + second.kv_bytes);
  }
  EXPECT_EQ(memory_.taken(), 0);
}

TEST_F(SimExecutorTest, AnAbortEndsAStuckStep) {
  TestModel model = Load(1);
  faults_.stuck = true;
  const uint64_t before = model.rank(0).progress();
  std::thread abort([&model] { model.communicator(0).Abort("enough"); });
  TestSequence sequence{{1, 2, 3}, 0, ScatteredBlocks(5, 1)};
  const std::vector<SequenceInput> step = {sequence.Next(3, true)};
  const auto ran = model.rank(0).Run({absl::MakeConstSpan(step)});
  abort.join();
  EXPECT_THAT(std::string(ran.status().message()), HasSubstr("enough"));
  EXPECT_EQ(model.rank(0).progress(), before);
}

TEST_F(SimExecutorTest, AStepTakesTheChipsTimeAndASlowOneTenTimes) {
  // 700 us on the host and 25 us for each of four layers, at least.
  const auto time_of_step = [](TestModel& model) {
    TestSequence sequence{{1, 2, 3}, 0, ScatteredBlocks(5, 1)};
    const auto begin = std::chrono::steady_clock::now();
    model.Run({sequence.Next(3, true)});
    return std::chrono::steady_clock::now() - begin;
  };
  TestModel model = Load(1, /*speedup=*/0.1);
  EXPECT_GE(time_of_step(model), std::chrono::microseconds(8000));
  EXPECT_EQ(model.rank(0).progress(), 4u);
  faults_.slow = true;
  EXPECT_GE(time_of_step(model), std::chrono::microseconds(80000));
}

TEST_F(SimExecutorTest, WhatDoesNotFitIsRefusedByItsNumbers) {
  SoloCommunicator communicator;
  const auto refused = LoadSimModel({.folder = SourcePath("models/tandem-tiny"),
                                     .memory_limit_bytes = 1000,
                                     .chip = placement::FindChip("L4"),
                                     .memory = &memory_,
                                     .faults = &faults_},
                                    &communicator);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("1000 are free"));
  EXPECT_EQ(memory_.taken(), 0);
}

}  // namespace
}  // namespace tandem::worker
