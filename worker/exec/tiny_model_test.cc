// The model that ships, against the reference's greedy continuations.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/model/json_fields.h"
#include "nlohmann/json.hpp"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {
namespace {

class TinyModel : public testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(TinyModel, ContinuesAsTheReferenceDoes) {
  const absl::StatusOr<std::string> text = model::ReadSmallFile(SourcePath("tests/golden/tiny_greedy.json"), 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  const nlohmann::json golden = nlohmann::json::parse(*text);
  const auto& [dtype, ranks] = GetParam();
  TestModel model({.folder = SourcePath("models/tandem-tiny"), .dtype = dtype, .max_batch_tokens = 128}, ranks);
  ASSERT_GE(golden.at("cases").size(), 10u);
  for (const nlohmann::json& one : golden.at("cases")) {
    const auto wanted = one.at("greedy_ids").get<std::vector<TokenId>>();
    TestSequence sequence{one.at("prompt_ids").get<std::vector<TokenId>>(), 0, ScatteredBlocks(5, 10)};
    std::vector<TokenId> output;
    while (output.size() < wanted.size()) {
      output.push_back(Best(model.Run({sequence.Next(sequence.left(), true)})[0]));
      sequence.tokens.push_back(output.back());
    }
    EXPECT_EQ(output, wanted) << "prompt: " << one.at("prompt");
  }
}

INSTANTIATE_TEST_SUITE_P(, TinyModel, testing::Combine(testing::Values("float32", "auto"), testing::Values(1, 2)),
                         [](const auto& info) {
                           return absl::StrCat(std::get<0>(info.param), "_tp", std::get<1>(info.param));
                         });

}  // namespace
}  // namespace tandem::worker
