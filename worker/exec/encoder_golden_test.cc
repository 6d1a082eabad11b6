// Encoders against the reference implementation, on the tiny models of tests/golden/encoders.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"
#include "worker/exec/cpu_encoder.h"
#include "worker/exec/encoder_golden_for_test.h"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* name;
  const char* task;
};

class EncoderGoldenTest : public testing::TestWithParam<Case> {
 protected:
  std::string folder() const { return SourcePath(absl::StrCat("tests/golden/encoders/", GetParam().name)); }

  std::unique_ptr<Executor> Load(const std::string& isa, int threads, int32_t batch_tokens = 256,
                                 const std::string& dtype = "auto") {
    auto loaded = LoadCpuEncoder({.folder = folder(),
                                  .dtype = dtype,
                                  .isa = isa,
                                  .threads = threads,
                                  .max_batch_tokens = batch_tokens,
                                  .max_sequences = 16,
                                  .memory_limit_bytes = 64 << 20},
                                 GetParam().task, &solo_);
    CHECK(loaded.ok()) << loaded.status();
    CHECK((*loaded)->AllocateKv(64).ok());
    return *std::move(loaded);
  }

  static SequenceInput Input(const EncoderGolden& golden, size_t i) {
    return {.tokens = golden.ids[i], .sample = true, .second_text_at = golden.second_at[i]};
  }

  SoloCommunicator solo_;
};

TEST_P(EncoderGoldenTest, VectorsEqualTheReference) {
  const EncoderGolden golden = ReadEncoderGolden(folder());
  for (const char* isa : {"generic", "auto"}) {
    const auto executor = Load(isa, 1);
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < golden.ids.size(); ++i) inputs.push_back(Input(golden, i));
    const auto rows = RunVectors(*executor, inputs);
    for (size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(rows[i].size(), golden.vectors[i].size());
      for (size_t k = 0; k < rows[i].size(); ++k) {
        // Two layers of float32 sums in another order; values are near 1.
        EXPECT_NEAR(rows[i][k], golden.vectors[i][k], 2e-5) << isa << ", input " << i << ", value " << k;
      }
    }
  }
}

// A text's vector has the same bits whoever is beside it, and however many threads compute it.
TEST_P(EncoderGoldenTest, NeighboursAndThreadsChangeNoBit) {
  const EncoderGolden golden = ReadEncoderGolden(folder());
  const auto executor = Load("auto", 1);
  const auto threaded = Load("auto", 3);
  std::vector<SequenceInput> all;
  for (size_t i = 0; i < golden.ids.size(); ++i) all.push_back(Input(golden, i));
  const auto together = RunVectors(*executor, all);
  EXPECT_EQ(RunVectors(*threaded, all), together);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(RunVectors(*executor, {all[i]})[0], together[i]) << "input " << i;
  std::reverse(all.begin(), all.end());
  auto reversed = RunVectors(*executor, all);
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_EQ(reversed, together);
}

// bfloat16 weights move the vector a little, not to another place.
TEST_P(EncoderGoldenTest, RoundedWeightsStayClose) {
  const EncoderGolden golden = ReadEncoderGolden(folder());
  const auto executor = Load("auto", 1, 256, "bfloat16");
  for (size_t i = 0; i < golden.ids.size(); ++i) {
    const auto row = RunVectors(*executor, {Input(golden, i)})[0];
    double error = 0, norm = 0;
    for (size_t k = 0; k < row.size(); ++k) {
      error += std::pow(double{row[k]} - golden.vectors[i][k], 2);
      norm += std::pow(double{golden.vectors[i][k]}, 2);
    }
    EXPECT_LT(std::sqrt(error), 0.1 * std::max(1.0, std::sqrt(norm))) << "input " << i;
  }
}

TEST_P(EncoderGoldenTest, MemoryIsWhatTheFormulaSays) {
  const auto executor = Load("auto", 1);
  const auto config = model::ReadEncoderConfig(folder(), GetParam().task);
  ASSERT_TRUE(config.ok()) << config.status();
  const MemoryReport memory = executor->memory();
  EXPECT_EQ(memory.weight_bytes + memory.packed_bytes, model::EncoderWeightBytes(*config, model::DType::kFloat32));
  EXPECT_EQ(memory.activation_bytes, model::SizeEncoderArena(*config, 256, 16).total_bytes);
}

TEST_P(EncoderGoldenTest, AStepThatIsNoStepIsRefused) {
  const auto executor = Load("auto", 1);
  const std::vector<TokenId> ids = {5, 6, 7};
  const std::vector<TokenId> unknown = {5, 1000};
  const std::vector<TokenId> too_long(static_cast<size_t>(executor->facts().max_positions), 5);
  EXPECT_THAT(executor->Run({{{.tokens = unknown, .sample = true}}}).status().message(), HasSubstr("token id 1000"));
  EXPECT_THAT(executor->Run({{{.tokens = too_long, .sample = true}}}).status().message(), HasSubstr("tokens"));
  EXPECT_THAT(executor->Run({{{.tokens = ids, .start = 1, .sample = true}}}).status().message(), HasSubstr("start 1"));
  EXPECT_THAT(executor->Run({{{.tokens = ids, .sample = false}}}).status().message(), HasSubstr("a part of it"));
  EXPECT_THAT(executor->Run({{{.tokens = ids, .sample = true, .second_text_at = 4}}}).status().message(),
              HasSubstr("second text at 4"));
}

INSTANTIATE_TEST_SUITE_P(All, EncoderGoldenTest,
                         testing::Values(Case{"bert-mean", "embed"}, Case{"bert-cls-tanh", "embed"},
                                         Case{"bert-max-relu", "embed"}, Case{"roberta-last", "embed"},
                                         Case{"xlmr-mean", "embed"}, Case{"bert-rerank", "rerank"},
                                         Case{"roberta-rerank", "rerank"}),
                         [](const testing::TestParamInfo<Case>& info) {
                           std::string name = info.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(EncoderLoadTest, AModelOfTheOtherTaskIsRefused) {
  const auto embed = model::ReadEncoderConfig(SourcePath("tests/golden/encoders/bert-mean"), "rerank");
  EXPECT_THAT(embed.status().message(), HasSubstr("its task is embed, not rerank"));
  const auto rerank = model::ReadEncoderConfig(SourcePath("tests/golden/encoders/bert-rerank"), "embed");
  EXPECT_THAT(rerank.status().message(), HasSubstr("its task is rerank, not embed"));
  const auto decoder = model::ReadEncoderConfig(SourcePath("tests/golden/models/gpt2"), "embed");
  EXPECT_THAT(decoder.status().message(), HasSubstr("GPT2LMHeadModel is no encoder"));
}

}  // namespace
}  // namespace tandem::worker
