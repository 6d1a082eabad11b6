#include "worker/engine/sequence_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SequenceTable MakeTable() {
  return SequenceTable(
      4, {.leader = 1, .counter = 2},
      {.max_sequences = 2, .max_batch_tokens = 32, .max_model_len = 64, .num_blocks = 8, .vocab_size = 100});
}

class SequenceTableTest : public ::testing::Test {
 protected:
  StepPlan Plan() {
    StepPlan plan;
    plan.group_id = 4;
    plan.epoch = {.leader = 1, .counter = 2};
    plan.step = table_.last_step() + 1;
    return plan;
  }
  void Add(StepPlan& plan, PlanEntry entry, std::vector<TokenId> tokens, std::vector<BlockId> blocks) {
    entry.token_count = tokens.size();
    entry.block_count = blocks.size();
    plan.entries.push_back(entry);
    plan.tokens.insert(plan.tokens.end(), tokens.begin(), tokens.end());
    plan.blocks.insert(plan.blocks.end(), blocks.begin(), blocks.end());
  }
  std::string Refusal(const StepPlan& plan) {
    absl::StatusOr<StepInput> input = table_.Apply(plan);
    return input.ok() ? "accepted" : std::string(input.status().message());
  }

  SequenceTable table_ = MakeTable();
};

TEST_F(SequenceTableTest, ASequenceGrowsByDifferences) {
  StepPlan first = Plan();
  Add(first, {.slot = 1, .fresh = true, .sample = true}, std::vector<TokenId>(15, 5), {3});
  ASSERT_TRUE(table_.Apply(first).ok());

  StepPlan second = Plan();
  Add(second, {.slot = 1, .sample = true, .start = 15}, {6, 7}, {0});
  absl::StatusOr<StepInput> input = table_.Apply(second);
  ASSERT_TRUE(input.ok()) << input.status();
  ASSERT_EQ(input->sequences.size(), 1u);
  EXPECT_EQ(input->sequences[0].start, 15);
  EXPECT_THAT(input->sequences[0].tokens, ElementsAre(6, 7));
  EXPECT_THAT(input->sequences[0].blocks, ElementsAre(3, 0));
  EXPECT_TRUE(input->sequences[0].sample);
}

TEST_F(SequenceTableTest, ASlotIsReusedInTheStepThatRetiresIt) {
  StepPlan first = Plan();
  Add(first, {.slot = 0, .fresh = true}, {1}, {0});
  ASSERT_TRUE(table_.Apply(first).ok());
  StepPlan second = Plan();
  second.retired = {0};
  Add(second, {.slot = 0, .fresh = true, .start = 16}, {2}, {5, 6});
  absl::StatusOr<StepInput> input = table_.Apply(second);
  ASSERT_TRUE(input.ok()) << input.status();
  EXPECT_THAT(input->sequences[0].blocks, ElementsAre(5, 6));
}

TEST_F(SequenceTableTest, AGapInTheStepsIsRefused) {
  StepPlan plan = Plan();
  plan.step = 2;
  EXPECT_THAT(Refusal(plan), HasSubstr("step 2 came after step 0"));
}

TEST_F(SequenceTableTest, AnotherGroupOrEpochIsRefused) {
  StepPlan plan = Plan();
  plan.group_id = 5;
  EXPECT_THAT(Refusal(plan), HasSubstr("group 5"));
  plan = Plan();
  plan.epoch.counter = 1;
  EXPECT_THAT(Refusal(plan), HasSubstr("epoch 1.1 came to group 4 epoch 1.2"));
}

TEST_F(SequenceTableTest, WhatDoesNotFollowIsRefused) {
  StepPlan plan = Plan();
  Add(plan, {.slot = 0}, {1}, {0});
  EXPECT_THAT(Refusal(plan), HasSubstr("is not in use"));
  plan = Plan();
  Add(plan, {.slot = 0, .fresh = true}, {1}, {0});
  ASSERT_EQ(Refusal(plan), "accepted");
  plan = Plan();
  Add(plan, {.slot = 0, .start = 2}, {1}, {});
  EXPECT_THAT(Refusal(plan), HasSubstr("starts at 2, computed are 1"));
  plan = Plan();
  Add(plan, {.slot = 0, .fresh = true}, {1}, {0});
  EXPECT_THAT(Refusal(plan), HasSubstr("given away while in use"));
}

TEST_F(SequenceTableTest, NumbersOutOfRangeAreRefused) {
  struct Case {
    PlanEntry entry;
    std::vector<TokenId> tokens;
    std::vector<BlockId> blocks;
    const char* refusal;
  };
  PlanEntry fresh{.slot = 0, .fresh = true};
  const Case cases[] = {
      {{.slot = 2, .fresh = true}, {1}, {0}, "there are 2 slots"},
      {fresh, {1}, {8}, "block 8 of 8"},
      {fresh, {1}, {-1}, "block -1 of 8"},
      {fresh, {100}, {0}, "token id 100"},
      {fresh, {-1}, {0}, "token id -1"},
      {fresh, {}, {0}, "0 tokens"},
      {fresh, std::vector<TokenId>(17, 1), {0}, "1 blocks do not cover 17"},
      {fresh, std::vector<TokenId>(33, 1), {0, 1, 2}, "33 tokens, the limits are 2 and 32"},
      {{.slot = 0, .fresh = true, .start = -1}, {1}, {0}, "starts at -1"},
      {{.slot = 0, .fresh = true, .start = 0x7fffffff}, {1}, {0}, "the context has 64"},
  };
  for (const Case& c : cases) {
    SequenceTable table = MakeTable();
    StepPlan plan = Plan();
    Add(plan, c.entry, c.tokens, c.blocks);
    EXPECT_THAT(std::string(table.Apply(plan).status().message()), HasSubstr(c.refusal));
  }
}

TEST_F(SequenceTableTest, ASlotComesOnceInAStep) {
  StepPlan plan = Plan();
  Add(plan, {.slot = 0, .fresh = true}, {1}, {0});
  Add(plan, {.slot = 0, .start = 1}, {1}, {});
  EXPECT_THAT(Refusal(plan), HasSubstr("comes twice"));
}

}  // namespace
}  // namespace tandem::worker
