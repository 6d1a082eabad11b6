#include "worker/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
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

// What a device would report of a row, its sums taken in another order than the sampler's.
class PickedRow {
 public:
  PickedRow(const std::vector<float>& logits, const LogitsWanted& wanted) {
    for (size_t i = 0; i < logits.size(); ++i)
      tokens_.push_back({.token = static_cast<TokenId>(i), .logit = logits[i]});
    std::stable_sort(tokens_.begin(), tokens_.end(), [](auto& a, auto& b) { return a.logit > b.logit; });
    for (size_t i = tokens_.size(); i-- > 0 && wanted.temperature > 0;) {
      const double below = double{tokens_[i].logit} - tokens_[0].logit;
      best_.sum += std::exp(below);
      best_.tempered_sum += std::exp(below / wanted.temperature);
    }
    tokens_.resize(std::min(tokens_.size(), static_cast<size_t>(wanted.best)));
    best_.tokens = tokens_;
  }
  const BestTokens& best() const { return best_; }

 private:
  std::vector<TokenLogit> tokens_;
  BestTokens best_;
};

// Every way to sample, over rows that are flat, steep, or full of equals.
TEST_F(SamplerTest, TheBestTokensGiveWhatTheWholeRowGives) {
  std::mt19937 random(11);
  const auto any = [&](auto... values) {
    const std::vector<double> all = {static_cast<double>(values)...};
    return all[random() % all.size()];
  };
  int decided = 0, fetched = 0, whole = 0;
  for (int round = 0; round < 4000; ++round) {
    const size_t vocab = static_cast<size_t>(any(5, 63, 64, 65, 300, 1500));
    const int steps = static_cast<int>(any(1, 7, 100, 100000));
    const double size = any(0.5, 4, 20);
    std::vector<float> logits(vocab);
    for (float& x : logits) {
      x = static_cast<float>(size * (static_cast<int>(random() % (2 * steps + 1)) - steps) / steps);
    }
    const Sampling sampling{.temperature = static_cast<float>(any(0, 1e-6, 0.1, 0.7, 1, 3, 1e8)),
                            .top_p = static_cast<float>(any(1, 1, 0.0, 0.1, 0.5, 0.9, 0.999)),
                            .top_k = static_cast<int32_t>(any(0, 0, 1, 5, 64, 65, 1000)),
                            .min_p = static_cast<float>(any(0, 0, 0.05, 0.5, 1)),
                            .seed = random()};
    std::optional<uint32_t> logprobs;
    if (const int count = static_cast<int>(any(-1, 0, 5, 20, 64, 70)); count >= 0) logprobs = count;
    const LogitsWanted wanted = WantedOf(sampling, {}, logprobs);
    if (wanted.best == 0) {
      EXPECT_TRUE(wanted.row);
      ++whole;
      continue;
    }
    const PickedRow picked(logits, wanted);
    SampleInput in{.sampling = &sampling, .index = random() % 100, .logprobs = logprobs};
    const auto few = sampler_.SampleFromBest(in, picked.best(), vocab);
    ASSERT_TRUE(few.ok()) << few.status();
    if (!few->has_value()) {
      EXPECT_TRUE(wanted.row) << "what can not be fetched has to be decided";
      ++fetched;
      continue;
    }
    ++decided;
    in.logits = logits;
    const SampledToken all = sampler_.Sample(in).value();
    ASSERT_EQ((*few)->token, all.token) << "round " << round << ", vocabulary " << vocab << ", temperature "
                                        << sampling.temperature << ", top_p " << sampling.top_p << ", top_k "
                                        << sampling.top_k << ", min_p " << sampling.min_p;
    ASSERT_EQ((*few)->logprobs.has_value(), all.logprobs.has_value());
    if (!all.logprobs) continue;
    EXPECT_EQ((*few)->logprobs->chosen.token, all.token);
    EXPECT_FLOAT_EQ((*few)->logprobs->chosen.logprob, all.logprobs->chosen.logprob);
    ASSERT_EQ((*few)->logprobs->top.size(), all.logprobs->top.size());
    for (size_t i = 0; i < all.logprobs->top.size(); ++i) {
      EXPECT_EQ((*few)->logprobs->top[i].token, all.logprobs->top[i].token);
      EXPECT_FLOAT_EQ((*few)->logprobs->top[i].logprob, all.logprobs->top[i].logprob);
    }
  }
  EXPECT_GT(decided, 1500);
  EXPECT_GT(fetched, 100);
  EXPECT_GT(whole, 300);
}

TEST_F(SamplerTest, ACutThatTheSumsOrderCouldMoveIsLeftToTheRow) {
  // Four equal tokens: three quarters lie on the edge between the third and the fourth.
  std::vector<float> logits(200, -1000.0f);
  std::fill(logits.begin(), logits.begin() + 4, 1.0f);
  Sampling sampling{.temperature = 1, .top_p = 0.75f};
  const PickedRow edge(logits, WantedOf(sampling, {}, {}));
  EXPECT_FALSE(sampler_.SampleFromBest({.sampling = &sampling}, edge.best(), 200)->has_value());
  sampling.top_p = 0.76f;
  EXPECT_TRUE(sampler_.SampleFromBest({.sampling = &sampling}, edge.best(), 200)->has_value());
}

TEST_F(SamplerTest, WhatIsWantedOfARow) {
  const auto wanted = [](const Sampling& sampling, std::optional<uint32_t> logprobs = {}) {
    return WantedOf(sampling, {}, logprobs);
  };
  EXPECT_EQ(wanted({}), (LogitsWanted{.best = 1, .row = false}));
  EXPECT_EQ(wanted({}, 5), (LogitsWanted{.best = 5, .row = false, .temperature = 1}));
  EXPECT_EQ(wanted({.temperature = 0.5f, .top_k = 40}), (LogitsWanted{.best = 40, .row = false}));
  EXPECT_EQ(wanted({.temperature = 0.5f, .top_p = 0.9f}), (LogitsWanted{.best = 64, .row = true, .temperature = 0.5f}));
  EXPECT_EQ(wanted({.temperature = 1}), LogitsWanted()) << "any token may come";
  EXPECT_EQ(wanted({.temperature = 1, .top_k = 65}), LogitsWanted());
  EXPECT_EQ(wanted({}, 65), LogitsWanted());
  EXPECT_EQ(wanted({.presence_penalty = 0.1f}), LogitsWanted());
  EXPECT_EQ(WantedOf({}, std::vector<TokenId>{2}, {}), LogitsWanted()) << "the best may be forbidden";
}

TEST_F(SamplerTest, NonsenseThatADeviceFoundIsTheSameError) {
  Sampling greedy;
  const std::vector<float> logits = {1, std::nanf(""), 2};
  const std::vector<TokenLogit> tokens = {{2, 2}};
  const BestTokens best{.tokens = tokens, .not_finite = TokenLogit{1, logits[1]}};
  EXPECT_EQ(sampler_.SampleFromBest({.sampling = &greedy, .index = 7}, best, 3).status(),
            sampler_.Sample({.logits = logits, .sampling = &greedy, .index = 7}).status());
}

}  // namespace
}  // namespace tandem::worker
