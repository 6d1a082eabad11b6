// The best tokens of a row, however the vocabulary is split.

#include "worker/cuda/ops/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "worker/cuda/ops/device_for_test.h"

namespace tandem::worker::cuda {
namespace {

using testing::ElementsAre;

std::vector<int32_t> TokensOf(const std::vector<Candidate>& candidates) {
  std::vector<int32_t> tokens;
  for (const Candidate& one : candidates) tokens.push_back(one.token);
  return tokens;
}

class Sampling : public DeviceTest {
 protected:
  std::vector<Candidate> Best(const std::vector<float>& logits, int32_t rows, int32_t stride, int32_t columns,
                              int32_t k, int32_t first_token = 0) {
    const OnDevice<float> values(logits);
    const OnDevice<Candidate> output(static_cast<size_t>(rows * k), Candidate{9.0f, 9});
    const OnDevice<Candidate> workspace(static_cast<size_t>(TopKWorkspaceBytes(rows, columns, k)) / sizeof(Candidate),
                                        Candidate());
    const absl::Status done = Done(TopK({.logits = values.data(),
                                         .stride = stride,
                                         .type = model::DType::kFloat32,
                                         .rows = rows,
                                         .columns = columns,
                                         .first_token = first_token,
                                         .k = k,
                                         .output = output.data(),
                                         .workspace = workspace.data()},
                                        stream_));
    EXPECT_TRUE(done.ok()) << done;
    return output.Read();
  }
};

TEST_F(Sampling, TheBestOfEveryRowInOrder) {
  for (const int32_t columns : {1, 5, 1024, 1025, 5000}) {
    for (const int32_t k : {1, 7, 64}) {
      constexpr int32_t kRows = 3;
      const int32_t stride = columns + 2;
      std::vector<float> logits = Noise(static_cast<uint32_t>(columns), static_cast<size_t>(kRows * stride),
                                        model::DType::kBFloat16);  // Coarse: many are equal.
      const std::vector<Candidate> got = Best(logits, kRows, stride, columns, k, 1000);
      for (int32_t row = 0; row < kRows; ++row) {
        std::vector<Candidate> all;
        for (int32_t c = 0; c < columns; ++c) all.push_back({logits[static_cast<size_t>(row * stride + c)], 1000 + c});
        std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.logit > b.logit; });
        for (int32_t i = 0; i < k; ++i) {
          const Candidate& one = got[static_cast<size_t>(row * k + i)];
          if (i >= columns) {
            EXPECT_EQ(one.token, -1);
            continue;
          }
          EXPECT_EQ(one.token, all[static_cast<size_t>(i)].token) << columns << " " << row << " " << i;
          EXPECT_EQ(one.logit, all[static_cast<size_t>(i)].logit);
        }
      }
    }
  }
}

TEST_F(Sampling, EqualsZerosInfinitiesAndWhatIsNoNumber) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float none = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> logits = {none, -0.0f, 0.0f, -infinity, infinity, -1.0f, infinity, none};
  EXPECT_THAT(TokensOf(Best(logits, 1, 8, 8, 8)), ElementsAre(4, 6, 1, 2, 5, 3, 0, 7));
}

TEST_F(Sampling, RanksTogetherFindWhatOneFinds) {
  const std::vector<float> logits = Noise(5, 3000, model::DType::kBFloat16);
  const std::vector<Candidate> whole = Best(logits, 1, 3000, 3000, 20);
  std::vector<Candidate> parts;
  for (int32_t rank = 0; rank < 4; ++rank) {
    const std::vector<float> mine(logits.begin() + rank * 750, logits.begin() + (rank + 1) * 750);
    const std::vector<Candidate> part = Best(mine, 1, 750, 750, 20, rank * 750);
    parts.insert(parts.end(), part.begin(), part.end());
  }
  EXPECT_EQ(TokensOf(MergeCandidates(parts, 20)), TokensOf(whole));
}

TEST_F(Sampling, LogitsWidenIntoTheirPlace) {
  for (const model::DType type : kSixteenBits) {
    const std::vector<float> values = Noise(6, 3 * 7, type);
    const OnDevice<uint16_t> bits(BitsOf(values, type));
    const OnDevice<float> output(3 * 10, -5.0f);
    ASSERT_DONE(Widen({.input = bits.data(),
                       .input_stride = 7,
                       .type = type,
                       .output = output.data(),
                       .output_stride = 10,
                       .rows = 3,
                       .columns = 6},
                      stream_));
    const std::vector<float> got = output.Read();
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i], i % 10 < 6 ? values[i / 10 * 7 + i % 10] : -5.0f);
    }
  }
}

}  // namespace
}  // namespace tandem::worker::cuda
