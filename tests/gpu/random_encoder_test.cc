// Encoders of shapes that chance picks, on a device and on the CPU: heads of odd sizes, sides that are no multiple of 8
// or 16, pictures cut into one patch or many, steps of one row. What a kernel or a product takes by another way for its
// alignment comes up here and in no model that somebody trained.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <list>
#include <random>

#include "absl/strings/match.h"
#include "base/model/clip_config.h"
#include "base/model/encoder_config.h"
#include "base/model/temporary_folder_for_test.h"
#include "nlohmann/json.hpp"
#include "tests/gpu/gpu_model_for_test.h"
#include "worker/cuda/encoder_executor.h"
#include "worker/exec/cpu_encoder.h"
#include "worker/exec/encoder_golden_for_test.h"
#include "worker/model/clip_plan.h"
#include "worker/model/clip_tensors.h"
#include "worker/model/encoder_plan.h"
#include "worker/model/encoder_tensors.h"

namespace tandem::worker::cuda {
namespace {

using nlohmann::json;

// Writes a model.safetensors of random weights in the place of reading one (tensor_reader.h says what is called). Sums
// keep the size of what goes into them.
class WeightWriter {
 public:
  explicit WeightWriter(std::mt19937* random) : random_(*random) {}

  template <typename Out>
  void Table(const std::string& name, int64_t rows, int64_t columns, Out*) {
    Write(name, {rows, columns}, 1.0f);
  }
  template <typename Out>
  void Vector(const std::vector<std::string>& names, int64_t count, Out*) {
    for (const std::string& name : names) {
      const bool scale = absl::StrContains(name, "orm") && absl::EndsWith(name, ".weight");
      Write(name, {count}, 0.2f, scale ? 1.0f : 0.0f);
    }
  }
  template <typename Out>
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, Out*) {
    for (const std::string& name : names) {
      Write(name, {columns, inner}, std::sqrt(3.0f / static_cast<float>(inner)));
    }
  }

  std::string file() const { return model::SafetensorsFile(header_.dump(), data_); }

 private:
  void Write(const std::string& name, const std::vector<int64_t>& shape, float reach, float middle = 0) {
    const size_t begin = data_.size();
    int64_t count = 1;
    for (const int64_t side : shape) count *= side;
    std::uniform_real_distribution<float> values(middle - reach, middle + reach);
    for (int64_t i = 0; i < count; ++i) {
      const float value = values(random_);
      data_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    header_[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }

  std::mt19937& random_;
  json header_ = json::object();
  std::string data_;
};

class RandomEncoders : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_DEVICES(1);
    random_.seed(static_cast<uint32_t>(GetParam()));
  }

  int Pick(int least, int most) {
    return least + static_cast<int>(random_() % static_cast<uint32_t>(most - least + 1));
  }
  template <typename T>
  T OneOf(std::initializer_list<T> values) {
    return values.begin()[random_() % values.size()];
  }

  json RandomTower() {
    const int heads = Pick(1, 3);
    return {{"hidden_size", heads * OneOf({4, 5, 8, 12, 16, 20, 33})},
            {"num_attention_heads", heads},
            {"num_hidden_layers", Pick(1, 2)},
            {"intermediate_size", Pick(1, 70)},
            {"layer_norm_eps", 1e-5}};
  }

  // Loads what the folder holds on both, and compares them over steps of `input`s, of which each call gives one.
  void Compare(const std::string& task, const std::function<SequenceInput(const ModelFacts&)>& input) {
    SoloCommunicator solo;
    CHECK_EQ(cudaSetDevice(0), cudaSuccess);
    constexpr int32_t kSequences = 20;
    const auto on_device = LoadCudaEncoder({.folder = folder_.path(),
                                            .dtype = "float16",
                                            .max_batch_tokens = 60,
                                            .max_sequences = kSequences,
                                            .wait_limit = std::chrono::minutes(2)},
                                           task, &solo);
    ASSERT_TRUE(on_device.ok()) << on_device.status();
    const auto on_cpu = LoadCpuEncoder({.folder = folder_.path(),
                                        .threads = 1,
                                        .max_batch_tokens = 60,
                                        .max_sequences = kSequences,
                                        .memory_limit_bytes = 512 << 20},
                                       task, &solo);
    ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
    for (const size_t most : {size_t{1}, size_t{3}, size_t{kSequences}}) {
      std::vector<SequenceInput> step;
      for (size_t left = 60; step.size() < most;) {
        const SequenceInput one = input((*on_device)->facts());
        if (one.tokens.size() > left) break;
        left -= one.tokens.size();
        step.push_back(one);
      }
      if (step.empty()) continue;
      const auto got = RunVectors(**on_device, step), wanted = RunVectors(**on_cpu, step);
      for (size_t i = 0; i < step.size(); ++i) {
        EXPECT_LE(ErrorOf(got[i], wanted[i]), 1e-2) << "input " << i << " of " << step.size() << ", of "
                                                    << step[i].tokens.size() << " tokens; " << config_.dump();
      }
    }
  }

  absl::Span<const TokenId> RandomIds(int count, int vocab) {
    ids_.emplace_back(static_cast<size_t>(count));
    for (TokenId& id : ids_.back()) id = Pick(0, vocab - 1);
    return ids_.back();
  }

  std::mt19937 random_;
  model::TemporaryFolder folder_;
  json config_;
  std::list<std::vector<TokenId>> ids_;  // of all inputs, as are:
  std::list<std::vector<uint8_t>> pixels_;
};

TEST_P(RandomEncoders, OfTexts) {
  const bool reranks = Pick(0, 1) == 1;
  config_ = RandomTower();
  config_["architectures"] = {reranks ? "BertForSequenceClassification" : "BertModel"};
  config_["hidden_act"] = OneOf({"gelu", "gelu_new", "relu"});
  config_["vocab_size"] = Pick(2, 60);
  config_["max_position_embeddings"] = Pick(1, 40);
  config_["type_vocab_size"] = Pick(1, 2);
  if (reranks) config_["id2label"] = {{"0", "LABEL_0"}};
  folder_.Write("config.json", config_.dump());
  const std::string task = reranks ? "rerank" : "embed";
  const auto config = model::ReadEncoderConfig(folder_.path(), task);
  ASSERT_TRUE(config.ok()) << config.status();
  EncoderPlan unused;
  WeightWriter writer(&random_);
  VisitEncoderTensors(*config, /*bare=*/!reranks, &unused, writer);
  folder_.Write("model.safetensors", writer.file());
  Compare(task, [&](const ModelFacts&) -> SequenceInput {
    const int count = Pick(1, std::min(config->max_tokens, 30));
    return {.tokens = RandomIds(count, config->vocab), .sample = true, .second_text_at = Pick(0, count)};
  });
}

TEST_P(RandomEncoders, OfTextsAndPictures) {
  const int patch = Pick(1, 5), side = patch * Pick(1, 4);
  config_["architectures"] = {"CLIPModel"};
  config_["projection_dim"] = Pick(1, 30);
  for (const char* tower : {"text_config", "vision_config"}) {
    config_[tower] = RandomTower();
    config_[tower]["hidden_act"] = OneOf({"quick_gelu", "gelu", "gelu_new"});
  }
  json& text = config_["text_config"];
  text["vocab_size"] = Pick(2, 60);
  text["max_position_embeddings"] = Pick(1, 40);
  text["eos_token_id"] = OneOf({1, 2});
  config_["vision_config"]["image_size"] = side;
  config_["vision_config"]["patch_size"] = patch;
  folder_.Write("config.json", config_.dump());
  const json square = {{"height", side}, {"width", side}};
  const json prepared = {
      {"size", square}, {"crop_size", square}, {"image_mean", {0.48, 0.46, 0.41}}, {"image_std", {0.27, 0.26, 0.28}}};
  folder_.Write("preprocessor_config.json", prepared.dump());
  const auto config = model::ReadClipConfig(folder_.path(), "embed");
  ASSERT_TRUE(config.ok()) << config.status();
  ClipPlan unused;
  WeightWriter writer(&random_);
  VisitClipTensors(*config, &unused, writer);
  folder_.Write("model.safetensors", writer.file());
  Compare("embed", [&](const ModelFacts& facts) -> SequenceInput {
    if (Pick(0, 1) == 0) {
      return {.tokens = RandomIds(Pick(1, std::min(config->text.positions, 30)), config->vocab), .sample = true};
    }
    pixels_.emplace_back(static_cast<size_t>(config->image_bytes()));
    for (uint8_t& byte : pixels_.back()) byte = static_cast<uint8_t>(random_());
    return {.tokens = RandomIds(facts.image_tokens, 1), .sample = true, .image = pixels_.back()};
  });
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomEncoders, testing::Range(1, 13));

}  // namespace
}  // namespace tandem::worker::cuda
