// Encoders on a device against the reference implementation's vectors, on the tiny models of tests/golden/encoders.
//
// Tolerances are shares of a vector's size: float16 keeps 11 bits of mantissa between products, bfloat16 8. What is
// really wrong (a mask, a position, a pooling) is off by 0.1 and more.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/gpu/gpu_model_for_test.h"
#include "worker/cuda/encoder_executor.h"
#include "worker/exec/encoder_golden_for_test.h"

namespace tandem::worker::cuda {
namespace {

using testing::HasSubstr;

struct EncoderCase {
  const char* name;
  const char* task;
};

class EncoderOnDevice : public testing::TestWithParam<EncoderCase> {
 protected:
  void SetUp() override { SKIP_WITHOUT_DEVICES(1); }

  std::string folder() const { return SourcePath(absl::StrCat("tests/golden/encoders/", GetParam().name)); }

  absl::StatusOr<std::unique_ptr<Executor>> Load(const std::string& dtype, int64_t memory = 0) {
    CHECK_EQ(cudaSetDevice(0), cudaSuccess);
    return LoadCudaEncoder({.folder = folder(),
                            .dtype = dtype,
                            .max_batch_tokens = 256,
                            .max_sequences = 16,
                            .memory_limit_bytes = memory,
                            .wait_limit = std::chrono::minutes(2)},
                           GetParam().task, &solo_);
  }

  static std::vector<SequenceInput> Inputs(const EncoderGolden& golden) {
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < golden.ids.size(); ++i) {
      inputs.push_back({.tokens = golden.ids[i], .sample = true, .second_text_at = golden.second_at[i]});
    }
    return inputs;
  }

  SoloCommunicator solo_;
};

TEST_P(EncoderOnDevice, VectorsStayNearTheReference) {
  const EncoderGolden golden = ReadEncoderGolden(folder());
  for (const auto& [dtype, slack] : {std::pair{"float16", 5e-3}, std::pair{"bfloat16", 4e-2}}) {
    const auto executor = Load(dtype);
    ASSERT_TRUE(executor.ok()) << executor.status();
    ASSERT_TRUE((*executor)->AllocateKv(64).ok());
    const std::vector<SequenceInput> inputs = Inputs(golden);
    const auto rows = RunVectors(**executor, inputs);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_LE(ErrorOf(rows[i], golden.vectors[i]), slack) << dtype << ", input " << i;
      // Whoever is beside it, a text gives nearly the same.
      EXPECT_LE(ErrorOf(RunVectors(**executor, {inputs[i]})[0], rows[i]), slack)
          << dtype << ", input " << i << " alone";
    }
    EXPECT_THAT((*executor)->numerics_id(), HasSubstr("/encoder/v"));
  }
}

TEST_P(EncoderOnDevice, LayersAreCountedAndMemoryIsTold) {
  const auto executor = Load("auto");
  ASSERT_TRUE(executor.ok()) << executor.status();
  const EncoderGolden golden = ReadEncoderGolden(folder());
  const uint64_t before = (*executor)->progress();
  RunVectors(**executor, {Inputs(golden)[0]});
  EXPECT_EQ((*executor)->progress() - before, 2u);
  EXPECT_GT((*executor)->memory().weight_bytes, 0);
  EXPECT_GT((*executor)->memory().activation_bytes, 32 << 20);  // what products are given beside
  ASSERT_TRUE((*executor)->AllocateKv(10).ok());
  EXPECT_EQ((*executor)->memory().kv_bytes, 10 * (*executor)->facts().kv_bytes_per_block);
}

TEST_P(EncoderOnDevice, WhatCanNotBeIsRefused) {
  const auto executor = Load("auto");
  ASSERT_TRUE(executor.ok()) << executor.status();
  const std::vector<TokenId> ids = {5, 6, 7}, unknown = {5, 1000};
  EXPECT_THAT((*executor)->Run({{{.tokens = unknown, .sample = true}}}).status().message(), HasSubstr("token id 1000"));
  EXPECT_THAT((*executor)->Run({{{.tokens = ids, .sample = false}}}).status().message(), HasSubstr("a part of it"));
  EXPECT_TRUE((*executor)->Run({{{.tokens = ids, .sample = true}}}).ok()) << "a refused step changes nothing";

  const auto small = Load("auto", 1 << 20);
  EXPECT_TRUE(absl::IsResourceExhausted(small.status())) << small.status();
  EXPECT_THAT(small.status().message(), HasSubstr("1048576 are free"));
  EXPECT_THAT(Load("float64").status().message(), HasSubstr("float64"));
}

INSTANTIATE_TEST_SUITE_P(All, EncoderOnDevice,
                         testing::Values(EncoderCase{"bert-mean", "embed"}, EncoderCase{"bert-cls-tanh", "embed"},
                                         EncoderCase{"bert-max-relu", "embed"}, EncoderCase{"roberta-last", "embed"},
                                         EncoderCase{"bert-rerank", "rerank"}, EncoderCase{"roberta-rerank", "rerank"}),
                         [](const testing::TestParamInfo<EncoderCase>& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tandem::worker::cuda
