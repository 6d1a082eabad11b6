// What the reference implementation makes of a tiny encoder's inputs: a folder of tests/golden/encoders.
#ifndef TANDEM_WORKER_EXEC_ENCODER_GOLDEN_FOR_TEST_H_
#define TANDEM_WORKER_EXEC_ENCODER_GOLDEN_FOR_TEST_H_

#include <glog/logging.h>

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

inline EncoderGolden ReadEncoderGolden(const std::string& folder) {
  EncoderGolden golden;
  const absl::StatusOr<std::string> text = model::ReadSmallFile(folder + "/golden.json", 1 << 20);
  CHECK(text.ok()) << text.status();
  const nlohmann::json object = nlohmann::json::parse(*text);
  for (const nlohmann::json& input : object.at("inputs")) {
    golden.ids.push_back(input.at("ids").get<std::vector<TokenId>>());
    golden.second_at.push_back(input.at("second_at").get<int32_t>());
  }
  const absl::StatusOr<std::string> file = model::ReadSmallFile(folder + "/golden.safetensors", 1 << 20);
  CHECK(file.ok()) << file.status();
  const auto length = model::SafetensorsHeaderLength(*file, static_cast<int64_t>(file->size()), "golden");
  CHECK(length.ok()) << length.status();
  const size_t data = static_cast<size_t>(8 + *length);
  const auto tensors = model::ParseSafetensorsHeader(absl::string_view(*file).substr(8, data - 8),
                                                     static_cast<int64_t>(file->size() - data), "golden");
  CHECK(tensors.ok()) << tensors.status();
  const model::TensorInfo& info = tensors->at("vectors");
  const size_t width = static_cast<size_t>(info.shape[1]);
  golden.vectors.assign(static_cast<size_t>(info.shape[0]), std::vector<float>(width));
  for (size_t i = 0; i < golden.vectors.size(); ++i) {
    std::memcpy(golden.vectors[i].data(), file->data() + data + info.begin + i * width * 4, width * 4);
  }
  return golden;
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_ENCODER_GOLDEN_FOR_TEST_H_
