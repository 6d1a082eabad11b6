#include "placement/planner/auto_degree.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "placement/planner/dual_3090.h"

namespace tandem::placement {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const Option* Find(const std::vector<Option>& options, int degree, int replicas) {
  for (const Option& option : options) {
    if (option.degree == degree && option.replicas == replicas) return &option;
  }
  return nullptr;
}

TEST(AutoDegreeTest, ReachesEachClaimOnTwo3090sByChoosing) {
  for (const ClaimedModel& claimed : ClaimedModels()) {
    const std::vector<Option> options = PredictOptions(claimed.model, Dual3090());
    const Option* one = Find(options, 1, 1);
    ASSERT_NE(one, nullptr) << claimed.model.name;
    const int chosen = ChooseOption(options, Goal::kThroughput);
    ASSERT_GE(chosen, 0);
    EXPECT_GE(options[chosen].tokens_per_s * 1000, one->tokens_per_s * claimed.claim_permille)
        << claimed.model.name << ": " << ExplainChoice(options, chosen, Goal::kThroughput);
  }
}

TEST(AutoDegreeTest, LatencyTakesBothCardsForALargeModelAndSaysWhatItCosts) {
  const ModelDemand mistral = ClaimedModels()[2].model;
  const std::vector<Option> options = PredictOptions(mistral, Dual3090());
  const int chosen = ChooseOption(options, Goal::kLatency);
  EXPECT_EQ(options[chosen].degree, 2);
  EXPECT_EQ(options[chosen].replicas, 1);
  const std::string text = ExplainChoice(options, chosen, Goal::kLatency);
  EXPECT_THAT(text, StartsWith("1 replica of TP=2: "));
  EXPECT_THAT(text, HasSubstr("x one of TP=1; 2 replicas of TP=1: "));
}

TEST(AutoDegreeTest, ThroughputTakesAReplicaPerCardWhereKvIsNotShort) {
  const ModelDemand dialogpt = ClaimedModels()[0].model;
  const std::vector<Option> options = PredictOptions(dialogpt, Dual3090());
  const Option& chosen = options[ChooseOption(options, Goal::kThroughput)];
  EXPECT_EQ(chosen.degree, 1);
  EXPECT_EQ(chosen.replicas, 2);
}

TEST(AutoDegreeTest, ThroughputTakesTheHigherDegreeWhereKvIsShort) {
  // Most of a card is weights: a replica on each runs a few sequences, both cards together run many.
  const ModelDemand llama = ClaimedModels()[1].model;
  const std::vector<Option> options = PredictOptions(llama, Dual3090());
  EXPECT_EQ(options[ChooseOption(options, Goal::kThroughput)].degree, 2);
  EXPECT_GT(Find(options, 2, 1)->kv_tokens, 3 * Find(options, 1, 1)->kv_tokens);
  EXPECT_NEAR(Find(options, 1, 1)->kv_tokens, 17'500, 1'000);
}

TEST(AutoDegreeTest, WhatDoesNotFitOneCardLeavesTheHigherDegree) {
  ModelDemand model = ClaimedModels()[1].model;
  model.shapes[0].fixed_bytes = int64_t{30} << 30;
  const std::vector<Option> options = PredictOptions(model, Dual3090());
  ASSERT_EQ(options.size(), 1u);
  EXPECT_EQ(options[0].degree, 2);
  EXPECT_THAT(ExplainChoice(options, 0, Goal::kThroughput), StartsWith("1 replica of TP=2: "));
}

TEST(AutoDegreeTest, NothingFits) {
  ModelDemand model = ClaimedModels()[1].model;
  for (Shape& shape : model.shapes) shape.impossible = "32 heads over 3 ranks";
  const std::vector<Option> options = PredictOptions(model, Dual3090());
  EXPECT_TRUE(options.empty());
  EXPECT_EQ(ChooseOption(options, Goal::kThroughput), -1);
  EXPECT_EQ(ExplainChoice(options, -1, Goal::kThroughput), "no degree fits these devices");
}

TEST(AutoDegreeTest, WithoutParametersTheMemoryOfAShapeStandsForThem) {
  ModelDemand model = ClaimedModels()[1].model;
  const int64_t known = PredictOptions(model, Dual3090())[0].ns_per_token_alone;
  model.parameters = model.weight_bytes = 0;
  const int64_t guessed = PredictOptions(model, Dual3090())[0].ns_per_token_alone;
  EXPECT_GT(guessed, known);
  EXPECT_LT(guessed, known * 12 / 10);
}

TEST(AutoDegreeTest, AShortageOfKvForOneRequestRulesADegreeOut) {
  ModelDemand model = ClaimedModels()[1].model;
  model.workload.prompt_tokens = 30'000;
  const std::vector<Option> options = PredictOptions(model, Dual3090());
  ASSERT_EQ(options.size(), 1u);
  EXPECT_EQ(options[0].degree, 2);
  EXPECT_EQ(options[0].sequences, 2);
}

TEST(AutoDegreeTest, FewerReplicasAreOptionsToo) {
  ModelDemand model = ClaimedModels()[2].model;
  EqualDevices devices = Dual3090();
  devices.count = 5;
  const std::vector<Option> options = PredictOptions(model, devices);
  EXPECT_EQ(options.size(), 5u + 2u);
  EXPECT_EQ(Find(options, 2, 2)->tokens_per_s, 2 * Find(options, 2, 1)->tokens_per_s);
}

TEST(AutoDegreeTest, ALittleFasterIsNotWorthHalfTheThroughput) {
  std::vector<Option> options = {{.degree = 1, .replicas = 2, .tokens_per_s = 2000, .ns_per_token_alone = 1040},
                                 {.degree = 2, .replicas = 1, .tokens_per_s = 1000, .ns_per_token_alone = 1000}};
  EXPECT_EQ(ChooseOption(options, Goal::kLatency), 0);
  options[0].ns_per_token_alone = 1060;
  EXPECT_EQ(ChooseOption(options, Goal::kLatency), 1);
}

}  // namespace
}  // namespace tandem::placement
