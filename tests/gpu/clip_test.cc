// CLIP on a device against the reference implementation's vectors and against the CPU executor, on the tiny model of
// tests/golden/encoders/clip and the pictures of tests/golden/images.
//
// Tolerances are shares of a vector's length: float16 keeps 11 bits of mantissa between products, bfloat16 8. What is
// really wrong (a mask, a position, a colour) is off by 0.1 and more.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/gpu/gpu_model_for_test.h"
#include "worker/cuda/encoder_executor.h"
#include "worker/exec/clip_golden_for_test.h"
#include "worker/exec/cpu_encoder.h"

namespace tandem::worker::cuda {
namespace {

using testing::HasSubstr;

class ClipOnDevice : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_DEVICES(1); }

  absl::StatusOr<std::unique_ptr<Executor>> Load(const std::string& dtype, int64_t memory = 0) {
    CHECK_EQ(cudaSetDevice(0), cudaSuccess);
    return LoadCudaEncoder({.folder = ClipGolden::Folder(),
                            .dtype = dtype,
                            .max_batch_tokens = 256,
                            .max_sequences = 12,
                            .memory_limit_bytes = memory,
                            .wait_limit = std::chrono::minutes(2)},
                           "embed", &solo_);
  }

  SoloCommunicator solo_;
  ClipGolden golden_;
};

TEST_F(ClipOnDevice, VectorsStayNearTheReference) {
  for (const auto& [dtype, slack] : {std::pair{"float16", 5e-3}, std::pair{"bfloat16", 4e-2}}) {
    const auto executor = Load(dtype);
    ASSERT_TRUE(executor.ok()) << executor.status();
    ASSERT_TRUE((*executor)->AllocateKv(64).ok());
    golden_.Prepare(**executor);
    const ClipGolden::Mixed all = golden_.All();
    double furthest = 0;
    for (size_t i = 0; i < all.inputs.size(); i += 11) {
      const size_t count = std::min<size_t>(11, all.inputs.size() - i);
      const std::vector<SequenceInput> some(all.inputs.begin() + static_cast<std::ptrdiff_t>(i),
                                            all.inputs.begin() + static_cast<std::ptrdiff_t>(i + count));
      const auto rows = RunVectors(**executor, some);
      for (size_t k = 0; k < count; ++k) {
        const double error = ErrorOf(rows[k], all.vectors[i + k]);
        EXPECT_LE(error, slack) << dtype << ", input " << i + k;
        furthest = std::max(furthest, error);
      }
      // Whoever is beside it, an input gives nearly the same.
      EXPECT_LE(ErrorOf(RunVectors(**executor, {some[0]})[0], rows[0]), slack) << dtype << ", input " << i << " alone";
    }
    RecordProperty(dtype, std::to_string(furthest));
    EXPECT_THAT((*executor)->numerics_id(), HasSubstr("/clip/v"));
  }
}

// Texts of any length with and without an end, and pictures of noise, in steps that chance puts together.
TEST_F(ClipOnDevice, RandomInputsAreWhatTheCpuMakesOfThem) {
  const auto on_device = Load("float16");
  ASSERT_TRUE(on_device.ok()) << on_device.status();
  const auto on_cpu = LoadCpuEncoder({.folder = ClipGolden::Folder(),
                                      .threads = 1,
                                      .max_batch_tokens = 256,
                                      .max_sequences = 12,
                                      .memory_limit_bytes = 512 << 20},
                                     "embed", &solo_);
  ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
  const ModelFacts& facts = (*on_device)->facts();
  EXPECT_EQ(facts.vector_size, (*on_cpu)->facts().vector_size);
  EXPECT_EQ(facts.image_tokens, (*on_cpu)->facts().image_tokens);
  EXPECT_EQ(facts.text_tokens, (*on_cpu)->facts().text_tokens);
  EXPECT_EQ(facts.max_positions, (*on_cpu)->facts().max_positions);
  EXPECT_EQ(facts.kv_bytes_per_block, (*on_cpu)->facts().kv_bytes_per_block);
  EXPECT_EQ(facts.revision, (*on_cpu)->facts().revision);

  std::mt19937 random(5);
  const std::vector<TokenId> of_image(static_cast<size_t>(facts.image_tokens), 0);
  for (int turn = 0; turn < 6; ++turn) {
    std::vector<std::vector<TokenId>> ids;
    std::vector<std::vector<uint8_t>> pixels;
    std::vector<bool> is_image;
    for (size_t left = 256; is_image.size() < 1 + random() % 12;) {
      const bool image = random() % 2 == 0;
      const size_t count = image ? of_image.size() : 1 + random() % static_cast<size_t>(facts.text_tokens);
      if (count > left) break;
      left -= count;
      is_image.push_back(image);
      if (image) {
        pixels.emplace_back(3 * 32 * 32);
        for (uint8_t& byte : pixels.back()) byte = static_cast<uint8_t>(random());
      } else {
        ids.emplace_back(count);
        for (TokenId& id : ids.back()) id = static_cast<TokenId>(random() % static_cast<uint32_t>(facts.vocab_size));
      }
    }
    std::vector<SequenceInput> step;
    size_t text = 0, image = 0;
    for (const bool picture : is_image) {
      step.push_back(picture ? SequenceInput{.tokens = of_image, .sample = true, .image = pixels[image++]}
                             : SequenceInput{.tokens = ids[text++], .sample = true});
    }
    const auto got = RunVectors(**on_device, step), wanted = RunVectors(**on_cpu, step);
    for (size_t i = 0; i < step.size(); ++i) {
      EXPECT_LE(ErrorOf(got[i], wanted[i]), 5e-3) << "turn " << turn << ", input " << i << " of " << step.size();
    }
  }
}

TEST_F(ClipOnDevice, LayersOfTheTowersThatRanAreCounted) {
  const auto executor = Load("auto");
  ASSERT_TRUE(executor.ok()) << executor.status();
  golden_.Prepare(**executor);
  const auto layers = [&](const std::vector<SequenceInput>& step) {
    const uint64_t before = (*executor)->progress();
    RunVectors(**executor, step);
    return (*executor)->progress() - before;
  };
  EXPECT_EQ(layers({golden_.Text(0)}), 2u);
  EXPECT_EQ(layers({golden_.Image(0)}), 2u);
  EXPECT_EQ(layers({golden_.Image(0), golden_.Text(1)}), 4u);
  ASSERT_TRUE((*executor)->AllocateKv(10).ok());
  EXPECT_EQ((*executor)->memory().kv_bytes, 10 * (*executor)->facts().kv_bytes_per_block);
}

TEST_F(ClipOnDevice, WhatCanNotBeIsRefused) {
  const auto executor = Load("auto");
  ASSERT_TRUE(executor.ok()) << executor.status();
  golden_.Prepare(**executor);
  const SequenceInput picture = golden_.Image(0);
  const std::vector<TokenId> unknown = {5, 100000};
  const std::vector<uint8_t> small(5);
  const auto refusal = [&](const SequenceInput& input) {
    return std::string((*executor)->Run({{input}}).status().message());
  };
  EXPECT_THAT(refusal({.tokens = unknown, .sample = true}), HasSubstr("token id 100000"));
  EXPECT_THAT(refusal({.tokens = picture.tokens, .sample = true, .image = small}), HasSubstr("a picture's bytes 5"));
  EXPECT_THAT(refusal({.tokens = unknown, .sample = true, .image = picture.image}), HasSubstr("a picture's tokens 2"));
  EXPECT_THAT((*executor)->ReadImage("GIF89a").status().message(), HasSubstr("neither a PNG nor a JPEG"));
  EXPECT_TRUE((*executor)->Run({{picture}}).ok()) << "a refused step changes nothing";

  EXPECT_TRUE(absl::IsResourceExhausted(Load("auto", 1 << 20).status()));
  EXPECT_THAT(Load("float32").status().message(), HasSubstr("choose auto, bfloat16 or float16"));
}

}  // namespace
}  // namespace tandem::worker::cuda
