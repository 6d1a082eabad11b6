#include "worker/cuda/graph_sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::worker::cuda {
namespace {

using testing::ElementsAre;

TEST(GraphSizes, GrowInStepsThatWasteLittle) {
  EXPECT_THAT(GraphSizes(64), ElementsAre(1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64));
  EXPECT_THAT(GraphSizes(1), ElementsAre(1));
  EXPECT_THAT(GraphSizes(3), ElementsAre(1, 2, 3));
  EXPECT_THAT(GraphSizes(9), ElementsAre(1, 2, 4, 8, 9));
}

TEST(GraphSizes, EndAtTheLargestGraph) {
  EXPECT_EQ(GraphSizes(10'000).back(), kLargestGraph);
  EXPECT_EQ(GraphSizes(10'000), GraphSizes(kLargestGraph));
  EXPECT_TRUE(GraphSizes(0).empty());
}

TEST(GraphSizes, TheSmallestThatFitsIsTaken) {
  const std::vector<int32_t> sizes = GraphSizes(100);
  for (int32_t n = 1; n <= 100; ++n) {
    const int32_t size = GraphSizeFor(sizes, n);
    EXPECT_GE(size, n);
    EXPECT_LT((n > 16 ? 3 : 2) * (size - n), size) << n << " takes " << size;
  }
  EXPECT_EQ(GraphSizeFor(sizes, 101), 0);
  EXPECT_EQ(GraphSizeFor({}, 1), 0);
}

TEST(GraphSizes, OnlyStepsOfOneTokenEachAreDecodeSteps) {
  const std::vector<TokenId> tokens = {5, 6};
  const SequenceInput one{.tokens = absl::MakeConstSpan(tokens).first(1)};
  const SequenceInput two{.tokens = tokens};
  EXPECT_TRUE(IsDecodeStep({{one, one}}));
  EXPECT_FALSE(IsDecodeStep({{one, two}}));
}

}  // namespace
}  // namespace tandem::worker::cuda
