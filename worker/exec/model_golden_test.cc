// The executor against the reference implementation, on the tiny models of tests/golden/models.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/model/json_fields.h"
#include "base/model/safetensors.h"
#include "nlohmann/json.hpp"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {
namespace {

struct Golden {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::vector<TokenId>> greedy;
  std::vector<std::vector<float>> float32;   // two rows per prompt: after it, and after the last output but one
  std::vector<std::vector<float>> bfloat16;  // the same, of rounded weights
};

std::vector<std::vector<float>> ReadRows(const model::TensorInfo& info, const char* data) {
  const size_t width = static_cast<size_t>(info.shape.back());
  std::vector<std::vector<float>> rows(static_cast<size_t>(info.shape[0] * info.shape[1]), std::vector<float>(width));
  for (size_t i = 0; i < rows.size(); ++i) std::memcpy(rows[i].data(), data + i * width * 4, width * 4);
  return rows;
}

Golden ReadGolden(const std::string& folder) {
  Golden golden;
  const absl::StatusOr<std::string> text = model::ReadSmallFile(folder + "/golden.json", 1 << 20);
  CHECK(text.ok()) << text.status();
  const nlohmann::json object = nlohmann::json::parse(*text);
  golden.prompts = object.at("prompts").get<std::vector<std::vector<TokenId>>>();
  golden.greedy = object.at("greedy").get<std::vector<std::vector<TokenId>>>();
  const absl::StatusOr<std::string> file = model::ReadSmallFile(folder + "/golden.safetensors", 1 << 20);
  CHECK(file.ok()) << file.status();
  const auto length = model::SafetensorsHeaderLength(*file, static_cast<int64_t>(file->size()), "golden");
  CHECK(length.ok()) << length.status();
  const size_t data = static_cast<size_t>(8 + *length);
  const auto tensors = model::ParseSafetensorsHeader(absl::string_view(*file).substr(8, data - 8),
                                                     static_cast<int64_t>(file->size() - data), "golden");
  CHECK(tensors.ok()) << tensors.status();
  const auto rows = [&](const char* name) {
    const model::TensorInfo& info = tensors->at(name);
    return ReadRows(info, file->data() + data + info.begin);
  };
  golden.float32 = rows("float32");
  golden.bfloat16 = rows("bfloat16");
  return golden;
}

// The largest difference between two rows.
float Distance(const std::vector<float>& a, const std::vector<float>& b) {
  float distance = 0;
  for (size_t i = 0; i < a.size(); ++i) distance = std::max(distance, std::fabs(a[i] - b[i]));
  return distance;
}

float RelativeError(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (double{got[i]} - wanted[i]) * (double{got[i]} - wanted[i]);
    norm += double{wanted[i]} * wanted[i];
  }
  return static_cast<float>(std::sqrt(error / norm));
}

float TopGap(std::vector<float> logits) {
  std::nth_element(logits.begin(), logits.begin() + 1, logits.end(), std::greater<>());
  return logits[0] - logits[1];
}

// The logits after the prompt and after prompt and output, as the golden has them.
std::vector<std::vector<float>> TwoRows(TestModel* model, const std::vector<TokenId>& prompt,
                                        const std::vector<TokenId>& output) {
  TestSequence sequence{prompt, 0, ScatteredBlocks(3, 8)};
  std::vector<std::vector<float>> rows = model->Run({sequence.Next(sequence.left(), true)});
  sequence.tokens.insert(sequence.tokens.end(), output.begin(), output.end() - 1);
  rows.push_back(model->Run({sequence.Next(sequence.left(), true)})[0]);
  return rows;
}

std::vector<TokenId> Greedy(TestModel* model, const std::vector<TokenId>& prompt, size_t count) {
  TestSequence sequence{prompt, 0, ScatteredBlocks(5, static_cast<int32_t>((prompt.size() + count) / 16 + 1))};
  while (sequence.tokens.size() < prompt.size() + count) {
    sequence.tokens.push_back(Best(model->Run({sequence.Next(sequence.left(), true)})[0]));
  }
  return {sequence.tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), sequence.tokens.end()};
}

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
                                                          "mistral-window", "qwen2-bias", "gpt2"),
                                          testing::Values(1, 2, 4)),
                         [](const auto& info) {
                           std::string name = absl::StrCat(std::get<0>(info.param), "_tp", std::get<1>(info.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tandem::worker
