// The reference implementation's answers for the tiny models of tests/golden/models, and how far others are from them.
#ifndef TANDEM_WORKER_EXEC_MODEL_GOLDEN_FOR_TEST_H_
#define TANDEM_WORKER_EXEC_MODEL_GOLDEN_FOR_TEST_H_

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/model/json_fields.h"
#include "base/model/safetensors.h"
#include "nlohmann/json.hpp"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {

struct Golden {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::vector<TokenId>> greedy;
  std::vector<std::vector<float>> float32;   // two rows per prompt: after it, and after the last output but one
  std::vector<std::vector<float>> bfloat16;  // the same, of rounded weights
};

inline std::vector<std::vector<float>> ReadRows(const model::TensorInfo& info, const char* data) {
  const size_t width = static_cast<size_t>(info.shape.back());
  std::vector<std::vector<float>> rows(static_cast<size_t>(info.shape[0] * info.shape[1]), std::vector<float>(width));
  for (size_t i = 0; i < rows.size(); ++i) std::memcpy(rows[i].data(), data + i * width * 4, width * 4);
  return rows;
}

inline Golden ReadGolden(const std::string& folder) {
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
inline float Distance(const std::vector<float>& a, const std::vector<float>& b) {
  float distance = 0;
  for (size_t i = 0; i < a.size(); ++i) distance = std::max(distance, std::fabs(a[i] - b[i]));
  return distance;
}

inline float RelativeError(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (double{got[i]} - wanted[i]) * (double{got[i]} - wanted[i]);
    norm += double{wanted[i]} * wanted[i];
  }
  return static_cast<float>(std::sqrt(error / norm));
}

inline float TopGap(std::vector<float> logits) {
  std::nth_element(logits.begin(), logits.begin() + 1, logits.end(), std::greater<>());
  return logits[0] - logits[1];
}

// The logits after the prompt and after prompt and output, as the golden has them.
inline std::vector<std::vector<float>> TwoRows(TestModel* model, const std::vector<TokenId>& prompt,
                                               const std::vector<TokenId>& output) {
  TestSequence sequence{prompt, 0, ScatteredBlocks(3, 8)};
  std::vector<std::vector<float>> rows = model->Run({sequence.Next(sequence.left(), true)});
  sequence.tokens.insert(sequence.tokens.end(), output.begin(), output.end() - 1);
  rows.push_back(model->Run({sequence.Next(sequence.left(), true)})[0]);
  return rows;
}

inline std::vector<TokenId> Greedy(TestModel* model, const std::vector<TokenId>& prompt, size_t count) {
  TestSequence sequence{prompt, 0, ScatteredBlocks(5, static_cast<int32_t>((prompt.size() + count) / 16 + 1))};
  while (sequence.tokens.size() < prompt.size() + count) {
    sequence.tokens.push_back(Best(model->Run({sequence.Next(sequence.left(), true)})[0]));
  }
  return {sequence.tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), sequence.tokens.end()};
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_MODEL_GOLDEN_FOR_TEST_H_
