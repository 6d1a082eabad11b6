// The figures of tandemctl bench against counting by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "client/ctl/bench_stats.h"

namespace tandem::client::ctl {
namespace {

using testing::HasSubstr;

BenchOutcome Completed(int64_t due, int64_t first, std::vector<int64_t> gaps) {
  BenchOutcome outcome;
  outcome.end = BenchOutcome::End::kCompleted;
  outcome.due_us = due;
  outcome.sent_us = due;
  outcome.first_us = first;
  outcome.last_us = first;
  for (int64_t gap : gaps) outcome.last_us += gap;
  outcome.tokens = static_cast<uint32_t>(gaps.size()) + 1;
  outcome.gaps_us = std::move(gaps);
  return outcome;
}

BenchOutcome Missed(BenchOutcome::End end, int64_t due, const char* reason) {
  BenchOutcome outcome;
  outcome.end = end;
  outcome.due_us = outcome.sent_us = due;
  outcome.last_us = due + 10;
  outcome.reason = reason;
  return outcome;
}

TEST(Percentiles, LieBetweenTheNearestValues) {
  EXPECT_DOUBLE_EQ(Percentile({10, 20, 30, 40, 50}, 0.5), 30);
  EXPECT_DOUBLE_EQ(Percentile({10, 20, 30, 40, 50}, 0.9), 46);
  EXPECT_DOUBLE_EQ(Percentile({10, 20}, 0.5), 15);
  EXPECT_DOUBLE_EQ(Percentile({7}, 0.99), 7);
  EXPECT_DOUBLE_EQ(Percentile({1, 2, 3}, 0), 1);
  EXPECT_DOUBLE_EQ(Percentile({1, 2, 3}, 1), 3);
}

TEST(Percentiles, SplitAnySampleAsTheySay) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<int64_t> values(1 + random() % 300);
    for (int64_t& value : values) value = random() % 50;
    const Distribution d = Distribute(values);
    for (const auto& [share, ms] : {std::pair(0.5, d.p50), {0.9, d.p90}, {0.99, d.p99}}) {
      const double n = static_cast<double>(values.size()), us = ms * 1e3;
      const auto below = std::count_if(values.begin(), values.end(), [&, at = us](int64_t v) { return v < at - 1e-6; });
      const auto not_above =
          std::count_if(values.begin(), values.end(), [&, at = us](int64_t v) { return v <= at + 1e-6; });
      EXPECT_LE(static_cast<double>(below), share * (n - 1) + 1);
      EXPECT_GE(static_cast<double>(not_above), share * (n - 1));
    }
    EXPECT_EQ(d.most * 1e3, *std::max_element(values.begin(), values.end()));
  }
}

TEST(Report, CountsFromWhenARequestWasDue) {
  // Due at 0, first token at 1 s, then 3 gaps of 100 ms: TTFT 1000 ms, TPOT 100 ms, E2E 1300 ms.
  BenchOutcome late = Completed(0, 1'000'000, {100'000, 100'000, 100'000});
  late.sent_us = 400'000;  // the generator's fault does not help the service
  const BenchReport report = Summarize({late}, {});
  EXPECT_DOUBLE_EQ(report.ttft.p50, 1000);
  EXPECT_DOUBLE_EQ(report.tpot.p50, 100);
  EXPECT_DOUBLE_EQ(report.e2e.p50, 1300);
  EXPECT_DOUBLE_EQ(report.lateness.most, 400);
  EXPECT_EQ(report.itl.count, 3u);
}

TEST(Report, ARejectedRequestIsAMiss) {
  const auto limits = *ParseServiceLevel("ttft=500ms,tpot=50ms");
  const BenchReport report = Summarize(
      {Completed(0, 400'000, {50'000}),           // good
       Completed(0, 600'000, {10'000}),           // first token too late
       Completed(0, 100'000, {10'000, 100'000}),  // too slow: 55 ms
       Completed(1'000'000, 1'100'000, {}),       // one token: TPOT counts as 0
       Missed(BenchOutcome::End::kRejected, 0, "QUEUE_FULL"), Missed(BenchOutcome::End::kRejected, 5, "QUEUE_FULL"),
       Missed(BenchOutcome::End::kFailed, 7, "WORKER_LOST")},
      limits);
  EXPECT_EQ(report.offered, 7u);
  EXPECT_EQ(report.completed, 4u);
  EXPECT_EQ(report.within_limits, 2u);
  EXPECT_EQ(report.rejected, 2u);
  EXPECT_EQ(report.failed, 1u);
  EXPECT_EQ(report.reasons.at("QUEUE_FULL"), 2u);
  EXPECT_EQ(report.tpot.count, 3u) << "one token has no time per token";
  EXPECT_DOUBLE_EQ(report.seconds, 1.1);
  EXPECT_DOUBLE_EQ(report.goodput, 2 / 1.1);
  EXPECT_DOUBLE_EQ(report.offered_rate, 6);
}

TEST(Report, EqualsAPlainCount) {
  std::mt19937 random(9);
  for (int round = 0; round < 100; ++round) {
    std::vector<BenchOutcome> outcomes;
    int64_t ttft_limit = 1 + random() % 1000, e2e_limit = 1 + random() % 3000;
    size_t good = 0;
    std::vector<int64_t> gaps_of_all;
    for (size_t i = 0; i < 1 + random() % 40; ++i) {
      if (random() % 4 == 0) {
        outcomes.push_back(Missed(BenchOutcome::End::kRejected, random() % 100, "X"));
        continue;
      }
      std::vector<int64_t> gaps(random() % 10);
      for (int64_t& gap : gaps) gap = random() % 300;
      gaps_of_all.insert(gaps_of_all.end(), gaps.begin(), gaps.end());
      const int64_t due = random() % 1000, first = due + random() % 2000;
      outcomes.push_back(Completed(due, first, gaps));
      int64_t sum = 0;
      for (int64_t gap : gaps) sum += gap;
      good += first - due <= ttft_limit && first - due + sum <= e2e_limit ? 1 : 0;
    }
    const BenchReport report = Summarize(outcomes, {.ttft_us = ttft_limit, .e2e_us = e2e_limit});
    EXPECT_EQ(report.within_limits, good);
    EXPECT_EQ(report.itl.count, gaps_of_all.size());
    EXPECT_EQ(report.completed + report.rejected, outcomes.size());
  }
}

TEST(ServiceLevels, AreNamedAndHaveUnits) {
  EXPECT_EQ(ParseServiceLevel("e2e=2s")->e2e_us, 2'000'000);
  EXPECT_EQ(ParseServiceLevel("")->ttft_us, std::nullopt);
  EXPECT_THAT(std::string(ParseServiceLevel("ttft").status().message()), HasSubstr("--slo ttft"));
  EXPECT_THAT(std::string(ParseServiceLevel("x=1s").status().message()), HasSubstr("ttft, tpot and e2e"));
}

}  // namespace
}  // namespace tandem::client::ctl
