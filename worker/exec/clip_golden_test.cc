// CLIP against the reference implementation, on the tiny model of tests/golden/encoders/clip and the pictures of
// tests/golden/images.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/image_limits.h"
#include "worker/exec/clip_golden_for_test.h"
#include "worker/exec/cpu_encoder.h"

namespace tandem::worker {
namespace {

using ::testing::HasSubstr;

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
  std::unique_ptr<Executor> Load(const std::string& isa, int threads, const std::string& dtype = "auto") {
    auto loaded = LoadCpuEncoder({.folder = ClipGolden::Folder(),
                                  .dtype = dtype,
                                  .isa = isa,
                                  .threads = threads,
                                  .max_batch_tokens = 2048,
                                  .max_sequences = 64,
                                  .memory_limit_bytes = 512 << 20},
                                 "embed", &solo_);
    CHECK(loaded.ok()) << loaded.status();
    CHECK((*loaded)->AllocateKv(64).ok());
    golden_.Prepare(**loaded);
    return *std::move(loaded);
  }

  SoloCommunicator solo_;
  ClipGolden golden_;
};

TEST_F(ClipGoldenTest, VectorsEqualTheReference) {
  for (const char* isa : {"generic", "auto"}) {
    const auto executor = Load(isa, 1);
    const ClipGolden::Mixed all = golden_.All();
    for (size_t i = 0; i < all.inputs.size(); ++i) {
      const auto vector = RunVectors(*executor, {all.inputs[i]})[0];
      EXPECT_LE(CosineDistance(vector, all.vectors[i]), 1e-6) << isa << ", input " << i;
      for (size_t k = 0; k < vector.size(); ++k) EXPECT_NEAR(vector[k], all.vectors[i][k], 1e-5) << isa << ", " << i;
    }
  }
}

TEST_F(ClipGoldenTest, NeighboursOfEitherKindAndThreadsChangeNoBit) {
  const auto executor = Load("auto", 1);
  const auto threaded = Load("auto", 3);
  const std::vector<SequenceInput> all = golden_.All().inputs;
  const std::vector<std::vector<float>> together = RunVectors(*executor, all);
  EXPECT_EQ(RunVectors(*threaded, all), together);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(RunVectors(*executor, {all[i]})[0], together[i]) << "input " << i;
}

TEST_F(ClipGoldenTest, RoundedWeightsStayClose) {
  const auto executor = Load("auto", 1, "bfloat16");
  const ClipGolden::Mixed all = golden_.All();
  const std::vector<std::vector<float>> got = RunVectors(*executor, all.inputs);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(CosineDistance(got[i], all.vectors[i]), 1e-2) << "input " << i;
}

TEST_F(ClipGoldenTest, MemoryIsWhatTheFormulaSays) {
  const auto executor = Load("auto", 1);
  const auto config = model::ReadClipConfig(ClipGolden::Folder(), "embed");
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
  const SequenceInput picture = golden_.Image(0);
  const auto refusal = [&](const SequenceInput& input) {
    return std::string(executor->Run({{input}}).status().message());
  };
  EXPECT_THAT(refusal({.tokens = unknown, .sample = true}), HasSubstr("token id 100000"));
  EXPECT_THAT(refusal({.tokens = too_long, .sample = true}), HasSubstr("tokens 41, limit 40"));
  EXPECT_THAT(refusal({.tokens = golden_.ids()[0], .sample = false}), HasSubstr("a part of it"));
  EXPECT_THAT(refusal({.tokens = picture.tokens, .sample = true, .image = small}), HasSubstr("a picture's bytes 5"));
  EXPECT_THAT(refusal({.tokens = unknown, .sample = true, .image = picture.image}), HasSubstr("a picture's tokens 2"));
  EXPECT_THAT(std::string(executor->ReadImage("GIF89a").status().message()), HasSubstr("neither a PNG nor a JPEG"));
}

TEST(ClipLoadTest, TheTaskIsEmbed) {
  EXPECT_TRUE(model::IsClipFolder(ClipGolden::Folder()));
  EXPECT_FALSE(model::IsClipFolder(SourcePath("tests/golden/encoders/bert-mean")));
  EXPECT_THAT(model::ReadClipConfig(ClipGolden::Folder(), "rerank").status().message(),
              HasSubstr("its task is embed, not rerank"));
}

}  // namespace
}  // namespace tandem::worker
