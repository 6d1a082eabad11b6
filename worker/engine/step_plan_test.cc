#include "worker/engine/step_plan.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tandem::worker {
namespace {

StepPlan Example() {
  StepPlan plan;
  plan.group_id = 7;
  plan.epoch = {.leader = 3, .counter = 9};
  plan.step = 1234567890123;
  plan.retired = {2, 5};
  plan.entries = {{.slot = 2, .fresh = true, .start = 16, .token_count = 3, .block_count = 2},
                  {.slot = 0, .sample = true, .start = 41, .token_count = 1},
                  {.slot = 1,
                   .sample = true,
                   .start = 7,
                   .token_count = 1,
                   .wanted = {.best = 40, .row = false, .temperature = 0.7f}}};
  plan.tokens = {11, 12, 13, 99, 98};
  plan.blocks = {4, 8};
  return plan;
}

TEST(StepPlanTest, WhatIsEncodedIsDecoded) {
  absl::StatusOr<StepPlan> plan = DecodePlan(EncodePlan(Example()));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(*plan, Example());

  StepPlan dissolve{.kind = StepPlan::Kind::kDissolve, .group_id = 1, .step = 2};
  EXPECT_EQ(DecodePlan(EncodePlan(dissolve)).value(), dissolve);
}

TEST(StepPlanTest, EveryCutIsRefused) {
  std::string bytes = EncodePlan(Example());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(DecodePlan(absl::string_view(bytes.data(), length)).ok()) << length;
  }
  EXPECT_FALSE(DecodePlan(bytes + "x").ok());
}

TEST(StepPlanTest, EntriesMustAccountForTokensAndBlocks) {
  StepPlan plan = Example();
  plan.entries[1].token_count = 2;
  EXPECT_FALSE(DecodePlan(EncodePlan(plan)).ok());
  plan = Example();
  plan.entries[0].block_count = 0xffffffff;
  EXPECT_FALSE(DecodePlan(EncodePlan(plan)).ok());
}

TEST(StepPlanTest, WhatNoDevicePicksIsRefused) {
  StepPlan plan = Example();
  plan.entries[2].wanted.best = kMostBestTokens + 1;
  EXPECT_FALSE(DecodePlan(EncodePlan(plan)).ok());
  plan = Example();
  plan.entries[2].wanted.temperature = -1;
  EXPECT_FALSE(DecodePlan(EncodePlan(plan)).ok());
}

// Whatever stands in the ring: an error or a plan that encodes to the same bytes, and no more memory than the bytes
// ask.
TEST(StepPlanTest, RandomDamageIsRefusedOrHarmless) {
  std::mt19937 random(99);
  const std::string good = EncodePlan(Example());
  for (int i = 0; i < 50000; ++i) {
    std::string bytes = good;
    int changes = 1 + random() % 4;
    for (int c = 0; c < changes; ++c) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 8 == 0) bytes.resize(random() % (bytes.size() + 1));
    absl::StatusOr<StepPlan> plan = DecodePlan(bytes);
    if (plan.ok()) {
      ASSERT_EQ(EncodePlan(*plan), bytes);
    }
  }
}

}  // namespace
}  // namespace tandem::worker
