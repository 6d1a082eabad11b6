// CLIP against the reference implementation, on the tiny model of tests/golden/encoders/clip and the pictures of
// tests/golden/images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/image_limits.h"
#include "base/model/json_fields.h"
#include "base/model/safetensors.h"
#include "nlohmann/json.hpp"
#include "worker/exec/cpu_encoder.h"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {
namespace {

using ::testing::HasSubstr;
using Vectors = std::vector<std::vector<float>>;

std::string Folder() { return SourcePath("tests/golden/encoders/clip"); }

std::string ReadWhole(const std::string& path) {
  const absl::StatusOr<std::string> text = model::ReadSmallFile(path, 1 << 20);
  CHECK(text.ok()) << text.status();
  return *text;
}

Vectors ReadVectors(const std::string& name) {
  const std::string file = ReadWhole(Folder() + "/golden.safetensors");
  const auto length = model::SafetensorsHeaderLength(file, static_cast<int64_t>(file.size()), "golden");
  CHECK(length.ok()) << length.status();
  const size_t data = static_cast<size_t>(8 + *length);
  const auto tensors = model::ParseSafetensorsHeader(absl::string_view(file).substr(8, data - 8),
                                                     static_cast<int64_t>(file.size() - data), "golden");
  CHECK(tensors.ok()) << tensors.status();
  const model::TensorInfo& info = tensors->at(name);
  const size_t width = static_cast<size_t>(info.shape[1]);
  Vectors vectors(static_cast<size_t>(info.shape[0]), std::vector<float>(width));
  for (size_t i = 0; i < vectors.size(); ++i) {
    std::memcpy(vectors[i].data(), file.data() + data + info.begin + i * width * 4, width * 4);
  }
  return vectors;
}

double CosineDistance(const std::vector<float>& a, const std::vector<float>& b) {
  double product = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return 1 - product / std::sqrt(aa * bb);
}

class ClipGoldenTest : public testing::Test {
 protected:
  void SetUp() override {
    const nlohmann::json golden = nlohmann::json::parse(ReadWhole(Folder() + "/golden.json"));
    for (const nlohmann::json& text : golden.at("texts")) ids_.push_back(text.at("ids").get<std::vector<TokenId>>());
    names_ = golden.at("images").get<std::vector<std::string>>();
  }

  std::unique_ptr<Executor> Load(const std::string& isa, int threads, const std::string& dtype = "auto") {
    auto loaded = LoadCpuEncoder({.folder = Folder(),
                                  .dtype = dtype,
                                  .isa = isa,
                                  .threads = threads,
                                  .max_batch_tokens = 2048,
                                  .max_sequences = 64,
                                  .memory_limit_bytes = 512 << 20},
                                 "embed", &solo_);
    CHECK(loaded.ok()) << loaded.status();
    CHECK((*loaded)->AllocateKv(64).ok());
    for (const std::string& name : names_) {
      auto image = (*loaded)->ReadImage(ReadWhole(SourcePath("tests/golden/images/" + name)));
      CHECK(image.ok()) << name << ": " << image.status();
      images_[name] = *std::move(image);
    }
    image_ids_.assign(static_cast<size_t>((*loaded)->facts().image_tokens), 0);
    return *std::move(loaded);
  }

  SequenceInput Text(size_t i) const { return {.tokens = ids_[i], .sample = true}; }
  SequenceInput Image(const std::string& name) const {
    return {.tokens = image_ids_, .sample = true, .image = images_.at(name)};
  }

  static Vectors Run(Executor& executor, const std::vector<SequenceInput>& inputs) {
    const auto vectors = executor.Run({absl::MakeConstSpan(inputs)});
    CHECK(vectors.ok()) << vectors.status();
    const size_t width = static_cast<size_t>(executor.facts().vector_size);
    CHECK_EQ(vectors->size(), inputs.size() * width);
    Vectors rows;
    for (size_t i = 0; i < inputs.size(); ++i) {
      rows.emplace_back(vectors->begin() + static_cast<std::ptrdiff_t>(i * width),
                        vectors->begin() + static_cast<std::ptrdiff_t>((i + 1) * width));
    }
    return rows;
  }

  // Texts and pictures in turn, as they may stand in a step.
  std::vector<SequenceInput> Mixed() const {
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < names_.size(); ++i) {
      if (i < ids_.size()) inputs.push_back(Text(i));
      inputs.push_back(Image(names_[i]));
    }
    return inputs;
  }

  SoloCommunicator solo_;
  std::vector<std::vector<TokenId>> ids_;
  std::vector<std::string> names_;
  std::map<std::string, std::vector<uint8_t>> images_;
  std::vector<TokenId> image_ids_;
};

TEST_F(ClipGoldenTest, VectorsEqualTheReference) {
  const Vectors texts = ReadVectors("texts");
  const Vectors images = ReadVectors("images");
  ASSERT_EQ(texts.size(), ids_.size());
  ASSERT_EQ(images.size(), names_.size());
  for (const char* isa : {"generic", "auto"}) {
    const auto executor = Load(isa, 1);
    for (size_t i = 0; i < ids_.size(); ++i) {
      const auto vector = Run(*executor, {Text(i)})[0];
      EXPECT_LE(CosineDistance(vector, texts[i]), 1e-6) << isa << ", text " << i;
      for (size_t k = 0; k < vector.size(); ++k) EXPECT_NEAR(vector[k], texts[i][k], 1e-5) << isa << ", text " << i;
    }
    for (size_t i = 0; i < names_.size(); ++i) {
      const auto vector = Run(*executor, {Image(names_[i])})[0];
      EXPECT_LE(CosineDistance(vector, images[i]), 1e-6) << isa << ", " << names_[i];
      for (size_t k = 0; k < vector.size(); ++k) EXPECT_NEAR(vector[k], images[i][k], 1e-5) << isa << names_[i];
    }
  }
}

TEST_F(ClipGoldenTest, NeighboursOfEitherKindAndThreadsChangeNoBit) {
  const auto executor = Load("auto", 1);
  const auto threaded = Load("auto", 3);
  const std::vector<SequenceInput> all = Mixed();
  const Vectors together = Run(*executor, all);
  EXPECT_EQ(Run(*threaded, all), together);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(Run(*executor, {all[i]})[0], together[i]) << "input " << i;
}

TEST_F(ClipGoldenTest, RoundedWeightsStayClose) {
  const auto executor = Load("auto", 1, "bfloat16");
  const Vectors texts = ReadVectors("texts");
  const Vectors images = ReadVectors("images");
  for (size_t i = 0; i < ids_.size(); ++i) EXPECT_LE(CosineDistance(Run(*executor, {Text(i)})[0], texts[i]), 1e-2);
  for (size_t i = 0; i < names_.size(); ++i) {
    EXPECT_LE(CosineDistance(Run(*executor, {Image(names_[i])})[0], images[i]), 1e-2) << names_[i];
  }
}

TEST_F(ClipGoldenTest, MemoryIsWhatTheFormulaSays) {
  const auto executor = Load("auto", 1);
  const auto config = model::ReadClipConfig(Folder(), "embed");
  ASSERT_TRUE(config.ok()) << config.status();
  const MemoryReport memory = executor->memory();
  EXPECT_EQ(memory.weight_bytes + memory.packed_bytes, model::ClipWeightBytes(*config, model::DType::kFloat32));
  EXPECT_EQ(memory.activation_bytes, model::SizeClipArena(*config, 2048, 64).total_bytes + model::kImageDecodeBytes);
  // 17 tokens of a picture of 32 x 32 hold its pixels while it waits.
  EXPECT_GE(executor->facts().kv_bytes_per_block / kBlockTokens * 17, 3 * 32 * 32);
}

TEST_F(ClipGoldenTest, AStepThatIsNoStepIsRefused) {
  const auto executor = Load("auto", 1);
  const std::vector<TokenId> unknown = {5, 100000};
  const std::vector<TokenId> too_long(41, 5);
  const std::vector<uint8_t> small(5);
  const auto refusal = [&](const SequenceInput& input) {
    return std::string(executor->Run({{input}}).status().message());
  };
  EXPECT_THAT(refusal({.tokens = unknown, .sample = true}), HasSubstr("token id 100000"));
  EXPECT_THAT(refusal({.tokens = too_long, .sample = true}), HasSubstr("tokens 41, limit 40"));
  EXPECT_THAT(refusal({.tokens = ids_[0], .sample = false}), HasSubstr("a part of it"));
  EXPECT_THAT(refusal({.tokens = image_ids_, .sample = true, .image = small}), HasSubstr("a picture's bytes 5"));
  EXPECT_THAT(refusal({.tokens = unknown, .sample = true, .image = images_.begin()->second}),
              HasSubstr("a picture's tokens 2"));
  EXPECT_THAT(std::string(executor->ReadImage("GIF89a").status().message()), HasSubstr("neither a PNG nor a JPEG"));
}

TEST(ClipLoadTest, TheTaskIsEmbed) {
  EXPECT_TRUE(model::IsClipFolder(Folder()));
  EXPECT_FALSE(model::IsClipFolder(SourcePath("tests/golden/encoders/bert-mean")));
  EXPECT_THAT(model::ReadClipConfig(Folder(), "rerank").status().message(), HasSubstr("its task is embed, not rerank"));
}

}  // namespace
}  // namespace tandem::worker
