// What ranks report of a row of logits, however the vocabulary is split, against a look at the whole row.

#include "worker/cuda/ops/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "worker/cuda/ops/device_for_test.h"

namespace tandem::worker::cuda {
namespace {

using testing::ElementsAre;

std::vector<int32_t> TokensOf(absl::Span<const TokenLogit> tokens) {
  std::vector<int32_t> ids;
  for (const TokenLogit& one : tokens) ids.push_back(one.token);
  return ids;
}

// Best first, of a row whose first token has this id.
std::vector<TokenLogit> Sorted(absl::Span<const float> row, int32_t first_token) {
  std::vector<TokenLogit> all;
  for (size_t c = 0; c < row.size(); ++c) all.push_back({first_token + static_cast<int32_t>(c), row[c]});
  std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.logit > b.logit; });
  return all;
}

double SumOf(absl::Span<const float> row, double temperature) {
  const double highest = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float logit : row) sum += std::exp((logit - highest) / temperature);
  return sum;
}

class BestTokensTest : public DeviceTest {
 protected:
  std::vector<RowReport> Report(const std::vector<float>& logits, int32_t stride, int32_t columns,
                                const std::vector<int32_t>& best, const std::vector<float>& temperature,
                                int32_t first_token = 0) {
    const int32_t rows = static_cast<int32_t>(best.size());
    const OnDevice<float> values(logits);
    const OnDevice<int32_t> counts(best);
    const OnDevice<float> temperatures(temperature);
    RowReport untouched;
    untouched.count = 77;
    const OnDevice<RowReport> reports(best.size(), untouched);
    const OnDevice<uint64_t> workspace(static_cast<size_t>(BestTokensWorkspaceBytes(rows, columns)) / 8, 0x5555);
    const absl::Status done = Done(PickBestTokens({.logits = values.data(),
                                                   .stride = stride,
                                                   .rows = rows,
                                                   .columns = columns,
                                                   .first_token = first_token,
                                                   .best = counts.data(),
                                                   .temperature = temperatures.data(),
                                                   .reports = reports.data(),
                                                   .workspace = workspace.data()},
                                                  stream_));
    EXPECT_TRUE(done.ok()) << done;
    return reports.Read();
  }
};

TEST_F(BestTokensTest, OfEveryRowAsManyAsItWants) {
  for (const int32_t columns : {1, 5, 1024, 1025, 5000}) {
    const std::vector<int32_t> best = {1, 0, 7, 64, 64};
    const std::vector<float> temperature = {0, 0, 1, 0.25f, 0};
    const int32_t stride = columns + 2;
    const std::vector<float> logits = Noise(static_cast<uint32_t>(columns), best.size() * static_cast<size_t>(stride),
                                            model::DType::kBFloat16);  // Coarse: many are equal.
    const std::vector<RowReport> got = Report(logits, stride, columns, best, temperature, 1000);
    EXPECT_EQ(got[1].count, 77) << "a row that nobody looks at is passed over";
    for (size_t r = 0; r < best.size(); ++r) {
      if (best[r] == 0) continue;
      const auto row = absl::MakeConstSpan(logits).subspan(r * static_cast<size_t>(stride), columns);
      const std::vector<TokenLogit> all = Sorted(row, 1000);
      ASSERT_EQ(got[r].count, std::min(best[r], columns)) << columns << " columns, row " << r;
      for (int32_t i = 0; i < got[r].count; ++i) {
        EXPECT_EQ(got[r].best[i].token, all[static_cast<size_t>(i)].token) << columns << " " << r << " " << i;
        EXPECT_EQ(got[r].best[i].logit, all[static_cast<size_t>(i)].logit);
      }
      EXPECT_EQ(got[r].highest, all[0].logit);
      EXPECT_EQ(got[r].bad_token, -1);
      if (temperature[r] == 0) {
        EXPECT_EQ(got[r].sum, 0) << "nobody asked for it";
        continue;
      }
      EXPECT_NEAR(got[r].sum, SumOf(row, 1), kSumError * got[r].sum);
      EXPECT_NEAR(got[r].tempered_sum, SumOf(row, temperature[r]), kSumError * got[r].tempered_sum);
    }
  }
}

TEST_F(BestTokensTest, EqualsAndZerosGoToTheLowerToken) {
  const std::vector<float> logits = {-3.0f, -0.0f, 0.0f, 5.0f, -1.0f, 5.0f};
  const RowReport report = Report(logits, 6, 6, {6}, {0})[0];
  EXPECT_THAT(TokensOf({report.best, 6}), ElementsAre(3, 5, 1, 2, 4, 0));
}

TEST_F(BestTokensTest, TheFirstThatIsNoNumberIsNamed) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> logits(3000, 1.0f);
    logits[2500] = logits[2040] = logits[2041] = bad;
    const RowReport report = Report(logits, 3000, 3000, {1}, {1}, 100)[0];
    EXPECT_EQ(report.bad_token, 2140);
    EXPECT_EQ(std::isnan(report.bad_logit), std::isnan(bad));
    if (!std::isnan(bad)) {
      EXPECT_EQ(report.bad_logit, bad);
    }
  }
}

TEST_F(BestTokensTest, RanksTogetherFindWhatOneFinds) {
  // The last rank has pad columns only.
  constexpr int32_t kParts[] = {750, 750, 200, 0};
  std::vector<float> logits = Noise(5, 1700, model::DType::kBFloat16);
  for (float& logit : logits) logit *= 30;
  const float temperature = 0.7f;
  const auto merged = [&](std::vector<TokenLogit>* room) {
    room->resize(kMostBestTokens);
    std::vector<RowReport> parts;
    int32_t first = 0;
    for (const int32_t count : kParts) {
      std::vector<float> mine(logits.begin() + first, logits.begin() + first + count);
      mine.resize(750, 1e9f);
      parts.push_back(Report(mine, 750, count, {64}, {temperature}, first)[0]);
      first += count;
    }
    return MergeReports({&parts[0], &parts[1], &parts[2], &parts[3]}, 64, temperature, room->data());
  };
  std::vector<TokenLogit> room;
  BestTokens best = merged(&room);
  std::vector<TokenLogit> all = Sorted(logits, 0);
  all.resize(64);
  EXPECT_EQ(TokensOf(best.tokens), TokensOf(all));
  EXPECT_NEAR(best.sum, SumOf(logits, 1), kSumError * best.sum);
  EXPECT_NEAR(best.tempered_sum, SumOf(logits, temperature), kSumError * best.tempered_sum);
  EXPECT_FALSE(best.not_finite.has_value());

  logits[1600] = logits[900] = std::numeric_limits<float>::quiet_NaN();
  best = merged(&room);
  ASSERT_TRUE(best.not_finite.has_value());
  EXPECT_EQ(best.not_finite->token, 900);
}

TEST_F(BestTokensTest, ATemperatureNearNothingLeavesTheHighest) {
  const std::vector<float> logits = {1, 3, 2, 3};
  const RowReport report = Report(logits, 4, 4, {2}, {1e-30f})[0];
  EXPECT_EQ(report.tempered_sum, 2);
}

}  // namespace
}  // namespace tandem::worker::cuda
