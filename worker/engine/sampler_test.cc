#include "worker/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "worker/engine/philox.h"

namespace tandem::worker {
namespace {

using ::testing::ElementsAre;

// The vectors that the authors of Philox publish with their library.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

class SamplerTest : public ::testing::Test {
 protected:
  TokenId Sample(const std::vector<float>& logits, const Sampling& sampling, uint64_t index = 0,
                 std::vector<TokenId> forbidden = {}) {
    SampleInput in{.logits = logits, .sampling = &sampling, .counts = &counts_, .forbidden = forbidden, .index = index};
    return sampler_.Sample(in).value().token;
  }
  // Every token that comes in 2,000 draws.
  std::set<TokenId> Support(const std::vector<float>& logits, const Sampling& sampling) {
    std::set<TokenId> seen;
    for (uint64_t i = 0; i < 2000; ++i) seen.insert(Sample(logits, sampling, i));
    return seen;
  }

  Sampler sampler_;
  TokenCounts counts_;
};

TEST_F(SamplerTest, GreedyTakesTheHighestAndTheLowestIdAmongEquals) {
  EXPECT_EQ(Sample({0, 3, 1, 3}, {}), 1);
  EXPECT_EQ(Sample({-5, -5}, {}), 0);
}

TEST_F(SamplerTest, ADrawDependsOnSeedAndIndexAlone) {
  std::vector<float> logits(100, 0.0f);
  Sampling sampling{.temperature = 1, .seed = 42};
  std::vector<TokenId> first;
  for (uint64_t i = 0; i < 50; ++i) first.push_back(Sample(logits, sampling, i));
  for (uint64_t i = 50; i-- > 0;) EXPECT_EQ(Sample(logits, sampling, i), first[i]);
  sampling.seed = 43;
  std::vector<TokenId> other;
  for (uint64_t i = 0; i < 50; ++i) other.push_back(Sample(logits, sampling, i));
  EXPECT_NE(first, other);
}

// Chi-square over 5 outcomes; 18.5 is passed by chance once in 1,000 seeds, and this seed is fixed.
TEST_F(SamplerTest, FrequenciesFollowTheDistribution) {
  const std::vector<float> logits = {0.5f, -1.0f, 2.0f, 0.0f, 1.0f};
  for (float temperature : {0.5f, 1.0f, 1.7f}) {
    Sampling sampling{.temperature = temperature, .seed = 2024};
    double norm = 0;
    for (float logit : logits) norm += std::exp(logit / temperature);
    constexpr int kDraws = 20000;
    std::vector<int> seen(logits.size());
    for (int i = 0; i < kDraws; ++i) ++seen[Sample(logits, sampling, i)];
    double chi2 = 0;
    for (size_t t = 0; t < logits.size(); ++t) {
      double expected = kDraws * std::exp(logits[t] / temperature) / norm;
      chi2 += (seen[t] - expected) * (seen[t] - expected) / expected;
    }
    EXPECT_LT(chi2, 18.5) << "temperature " << temperature;
  }
}

TEST_F(SamplerTest, TopKKeepsKAndBreaksTiesByTheLowerId) {
  EXPECT_EQ(Support({1, 2, 2, 2, 0}, {.temperature = 1, .top_k = 2}), (std::set<TokenId>{1, 2}));
  EXPECT_EQ(Support({1, 2, 0}, {.temperature = 2, .top_k = 3}), (std::set<TokenId>{0, 1, 2}));
  EXPECT_EQ(Support({1, 2, 0}, {.temperature = 2, .top_k = 1}), (std::set<TokenId>{1}));
}

TEST_F(SamplerTest, TopPKeepsTheLeastSetThatReachesIt) {
  // Probabilities 0.5, 0.3, 0.15, 0.05.
  std::vector<float> logits = {std::log(0.15f), std::log(0.5f), std::log(0.05f), std::log(0.3f)};
  EXPECT_EQ(Support(logits, {.temperature = 1, .top_p = 0.4f}), (std::set<TokenId>{1}));
  EXPECT_EQ(Support(logits, {.temperature = 1, .top_p = 0.79f}), (std::set<TokenId>{1, 3}));
  EXPECT_EQ(Support(logits, {.temperature = 1, .top_p = 0.9f}), (std::set<TokenId>{0, 1, 3}));
}

TEST_F(SamplerTest, TopPOfAFlatDistributionGoesBeyondTheSortedHead) {
  std::vector<float> logits(5000, 0.0f);
  std::set<TokenId> seen = Support(logits, {.temperature = 1, .top_p = 0.5f});
  EXPECT_GT(*seen.rbegin(), 2000);
  EXPECT_LT(*seen.rbegin(), 2500);
}

TEST_F(SamplerTest, MinPIsRelativeToTheHighest) {
  std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(Support(logits, {.temperature = 1, .min_p = 0.25f}), (std::set<TokenId>{0, 1, 2}));
}

TEST_F(SamplerTest, PenaltiesLowerWhatOccurred) {
  counts_.AddPrompt(0);
  counts_.AddOutput(1);
  counts_.AddOutput(1);
  // Repetition counts prompt and output, and pushes a negative logit further down.
  EXPECT_EQ(Sample({4, 4, 3}, {.repetition_penalty = 2}), 2);
  EXPECT_EQ(Sample({-1, -1, -1.5f}, {.repetition_penalty = 2}), 2);
  // Presence and frequency count the output only.
  EXPECT_EQ(Sample({3, 4, 2}, {.presence_penalty = 1.5f}), 0);
  EXPECT_EQ(Sample({3, 4, 2}, {.frequency_penalty = 0.4f}), 1);
  EXPECT_EQ(Sample({3, 4, 2}, {.frequency_penalty = 0.6f}), 0);
}

TEST_F(SamplerTest, ForbiddenTokensDoNotCome) {
  EXPECT_EQ(Sample({1, 3, 2}, {}, 0, {1}), 2);
  Sampling hot{.temperature = 2};
  for (uint64_t i = 0; i < 500; ++i) EXPECT_NE(Sample({1, 3, 2}, hot, i, {1, 1, 77}), 1);
}

TEST_F(SamplerTest, WhereAllIsForbiddenSomethingStillComes) { EXPECT_EQ(Sample({1, 2}, {}, 0, {0, 1}), 1); }

TEST_F(SamplerTest, NonsenseFromTheModelIsAnError) {
  Sampling greedy;
  for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits = {1, bad, 2};
    absl::StatusOr<SampledToken> token = sampler_.Sample({.logits = logits, .sampling = &greedy});
    EXPECT_EQ(token.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(token.status().message()), ::testing::HasSubstr("logit of token 1"));
  }
}

TEST_F(SamplerTest, LogprobsAreOfTheModelsOwnDistribution) {
  std::vector<float> logits = {std::log(0.2f) + 5, std::log(0.5f) + 5, std::log(0.3f) + 5};
  Sampling sampling{.temperature = 0.01f};
  SampledToken token =
      sampler_.Sample({.logits = logits, .sampling = &sampling, .forbidden = std::vector<TokenId>{1}, .logprobs = 2})
          .value();
  EXPECT_EQ(token.token, 2);
  EXPECT_NEAR(token.logprobs->chosen.logprob, std::log(0.3), 1e-5);
  ASSERT_EQ(token.logprobs->top.size(), 2u);
  EXPECT_EQ(token.logprobs->top[0].token, 1);
  EXPECT_NEAR(token.logprobs->top[0].logprob, std::log(0.5), 1e-5);
  EXPECT_EQ(token.logprobs->top[1].token, 2);
}

}  // namespace
}  // namespace tandem::worker
