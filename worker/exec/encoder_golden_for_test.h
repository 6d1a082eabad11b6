// What the reference implementation makes of a tiny encoder's inputs, a folder of tests/golden/encoders; and how what
// an executor makes of them is compared with it.
#ifndef TANDEM_WORKER_EXEC_ENCODER_GOLDEN_FOR_TEST_H_
#define TANDEM_WORKER_EXEC_ENCODER_GOLDEN_FOR_TEST_H_

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/model/json_fields.h"
#include "base/model/safetensors.h"
#include "nlohmann/json.hpp"
#include "worker/exec/executor.h"

namespace tandem::worker {

struct EncoderGolden {
  std::vector<std::vector<TokenId>> ids;
  std::vector<int32_t> second_at;
  std::vector<std::vector<float>> vectors;
};

// The rows of one tensor of golden.safetensors, which is float32.
inline std::vector<std::vector<float>> ReadGoldenRows(const std::string& folder, const std::string& name) {
  const absl::StatusOr<std::string> file = model::ReadSmallFile(folder + "/golden.safetensors", 1 << 20);
  CHECK(file.ok()) << file.status();
  const auto length = model::SafetensorsHeaderLength(*file, static_cast<int64_t>(file->size()), "golden");
  CHECK(length.ok()) << length.status();
  const size_t data = static_cast<size_t>(8 + *length);
  const auto tensors = model::ParseSafetensorsHeader(absl::string_view(*file).substr(8, data - 8),
                                                     static_cast<int64_t>(file->size() - data), "golden");
  CHECK(tensors.ok()) << tensors.status();
  const model::TensorInfo& info = tensors->at(name);
  const size_t width = static_cast<size_t>(info.shape[1]);
  std::vector<std::vector<float>> rows(static_cast<size_t>(info.shape[0]), std::vector<float>(width));
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(rows[i].data(), file->data() + data + info.begin + i * width * 4, width * 4);
  }
  return rows;
}

inline EncoderGolden ReadEncoderGolden(const std::string& folder) {
  EncoderGolden golden;
  const absl::StatusOr<std::string> text = model::ReadSmallFile(folder + "/golden.json", 1 << 20);
  CHECK(text.ok()) << text.status();
  const nlohmann::json object = nlohmann::json::parse(*text);
  for (const nlohmann::json& input : object.at("inputs")) {
    golden.ids.push_back(input.at("ids").get<std::vector<TokenId>>());
    golden.second_at.push_back(input.at("second_at").get<int32_t>());
  }
  golden.vectors = ReadGoldenRows(folder, "vectors");
  return golden;
}

// One row for each of the step's inputs.
inline std::vector<std::vector<float>> RunVectors(Executor& executor, const std::vector<SequenceInput>& inputs) {
  const auto vectors = executor.Run({absl::MakeConstSpan(inputs)});
  CHECK(vectors.ok()) << vectors.status();
  const size_t width = static_cast<size_t>(executor.facts().vector_size);
  CHECK_EQ(vectors->size(), inputs.size() * width);
  std::vector<std::vector<float>> rows;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto row = vectors->subspan(i * width, width);
    rows.emplace_back(row.begin(), row.end());
  }
  return rows;
}

// How far one is from the other, as a share of its length, or of 1 where that is less: scores of a sigmoid are compared
// as they are.
inline double ErrorOf(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0, size = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(double{got[i]} - wanted[i], 2);
    size += std::pow(double{wanted[i]}, 2);
  }
  return std::sqrt(error) / std::max(1.0, std::sqrt(size));
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_ENCODER_GOLDEN_FOR_TEST_H_
