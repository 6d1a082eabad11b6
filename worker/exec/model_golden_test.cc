// The executor against the reference implementation, on the tiny models of tests/golden/models.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/exec/model_golden_for_test.h"

namespace tandem::worker {
namespace {

class ModelGolden : public testing::TestWithParam<std::tuple<const char*, int>> {
 protected:
  std::string folder() const { return SourcePath(absl::StrCat("tests/golden/models/", std::get<0>(GetParam()))); }
  int ranks() const { return std::get<1>(GetParam()); }
};

TEST_P(ModelGolden, Float32LogitsAreTheReferences) {
  const Golden golden = ReadGolden(folder());
  TestModel model({.folder = folder(), .dtype = "float32", .max_batch_tokens = 128, .max_sequences = 4}, ranks());
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    const auto rows = TwoRows(&model, golden.prompts[i], golden.greedy[i]);
    EXPECT_LE(Distance(rows[0], golden.float32[2 * i]), 1e-4f) << "after prompt " << i;
    EXPECT_LE(Distance(rows[1], golden.float32[2 * i + 1]), 1e-4f) << "after output " << i;
  }
}

TEST_P(ModelGolden, GreedyIdsAreTheReferences) {
  const Golden golden = ReadGolden(folder());
  TestModel model({.folder = folder(), .dtype = "float32", .max_batch_tokens = 128, .max_sequences = 4}, ranks());
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    EXPECT_EQ(Greedy(&model, golden.prompts[i], golden.greedy[i].size()), golden.greedy[i]) << "prompt " << i;
  }
}

TEST_P(ModelGolden, BFloat16StaysNearTheReferenceOnTheSameWeights) {
  const Golden golden = ReadGolden(folder());
  TestModel model({.folder = folder(), .dtype = "bfloat16", .max_batch_tokens = 128, .max_sequences = 4}, ranks());
  for (size_t i = 0; i < golden.prompts.size(); ++i) {
    const auto rows = TwoRows(&model, golden.prompts[i], golden.greedy[i]);
    for (size_t j = 0; j < 2; ++j) {
      const std::vector<float>& wanted = golden.bfloat16[2 * i + j];
      EXPECT_LE(RelativeError(rows[j], wanted), 1e-2f) << "prompt " << i << ", row " << j;
      if (TopGap(wanted) > 4 * Distance(rows[j], wanted)) {
        EXPECT_EQ(Best(rows[j]), Best(wanted)) << "prompt " << i << ", row " << j;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ModelGolden,
                         testing::Combine(testing::Values("llama-llama3-rope", "llama-tied-bf16", "llama-yarn-biases",
                                                          "mistral-window", "qwen2-bias", "qwen3", "phi3-fused",
                                                          "gpt2"),
                                          testing::Values(1, 2, 4)),
                         [](const auto& info) {
                           std::string name = absl::StrCat(std::get<0>(info.param), "_tp", std::get<1>(info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tandem::worker
