// What encoders on a device do when it refuses, and that a load leaves nothing for the first step to take or to choose.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/emulation/control.h"
#include "tests/gpu/gpu_model_for_test.h"
#include "worker/cuda/encoder_executor.h"

namespace tandem::worker::cuda {
namespace {

using testing::HasSubstr;

class EncoderFaults : public testing::TestWithParam<const char*> {
 protected:
  EncoderFaults() { emulation::SetMachine({}); }
  ~EncoderFaults() override { emulation::SetMachine({}); }

  absl::StatusOr<std::unique_ptr<Executor>> Load() {
    CHECK_EQ(cudaSetDevice(0), cudaSuccess);
    return LoadCudaEncoder(options_, absl::StrContains(GetParam(), "rerank") ? "rerank" : "embed", &control_);
  }

  // So many texts of so many tokens, and pictures where the model reads them.
  static absl::Status Step(Executor& executor, int texts, int tokens, int pictures = 0) {
    const std::vector<TokenId> text(static_cast<size_t>(tokens), 3),
        picture(static_cast<size_t>(executor.facts().image_tokens), 0);
    const std::vector<uint8_t> pixels(3 * 32 * 32, 100);
    std::vector<SequenceInput> step(static_cast<size_t>(texts), {.tokens = text, .sample = true});
    if (!picture.empty()) {
      step.insert(step.end(), static_cast<size_t>(pictures), {.tokens = picture, .sample = true, .image = pixels});
    }
    return executor.Run({step}).status();
  }

  SoloCommunicator control_;
  CudaExecutorOptions options_{.folder = SourcePath(absl::StrCat("tests/golden/encoders/", GetParam())),
                               .max_batch_tokens = 150,
                               .max_sequences = 20,
                               .wait_limit = std::chrono::minutes(2)};
};

TEST_P(EncoderFaults, AnAllocationThatFailsLeavesNothingBehind) {
  options_.max_batch_tokens = options_.max_sequences = 1;
  for (const char* call : {"cudaMalloc", "cudaMallocHost"}) {
    int failed = 0;
    for (int nth = 1;; ++nth) {
      ASSERT_LT(nth, 20);
      emulation::SetMachine({});
      emulation::FailCall(call, nth, cudaErrorMemoryAllocation);
      const absl::Status status = Load().status();
      if (status.ok()) break;
      ++failed;
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << call << " " << nth << ": " << status;
      EXPECT_THAT(std::string(status.message()), testing::ContainsRegex("[0-9]+ (page-locked )?bytes"));
      EXPECT_EQ(emulation::AllocatedBytes(0), 0u) << call << " " << nth;
    }
    EXPECT_GE(failed, 2) << call;
  }
}

// At any number of texts, tokens and pictures: between two powers of two lies a bucket of its own, and the last product
// of a model has a row for each input and not for each token.
TEST_P(EncoderFaults, AStepTakesNothingAndChoosesNothing) {
  const auto executor = Load();
  ASSERT_TRUE(executor.ok()) << executor.status();
  const char* const kCalls[] = {"cudaMalloc", "cudaMallocHost", "cublasLtMatmulAlgoGetHeuristic"};
  std::vector<int64_t> before;
  for (const char* call : kCalls) before.push_back(emulation::CallsOf(call));
  EXPECT_GT(before[2], 0);
  for (const auto& [texts, tokens] : {std::pair(1, 1), {1, 40}, {2, 9}, {3, 40}, {9, 3}, {16, 1}, {17, 2}, {20, 7}}) {
    ASSERT_TRUE(Step(**executor, texts, tokens).ok()) << texts << " of " << tokens;
  }
  for (const auto& [texts, pictures] : {std::pair(0, 1), {1, 1}, {0, 2}, {0, 3}, {5, 5}, {0, 7}, {0, 8}}) {
    if ((*executor)->facts().image_tokens == 0) break;
    ASSERT_TRUE(Step(**executor, texts, 2, pictures).ok()) << pictures << " pictures, " << texts << " texts";
  }
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(emulation::CallsOf(kCalls[i]), before[i]) << kCalls[i];
}

TEST_P(EncoderFaults, AnErrorThatStaysEndsTheProcess) {
  std::vector<std::string> lost;
  options_.on_lost = [&lost](absl::string_view reason) { lost.emplace_back(reason); };
  const auto executor = Load();
  ASSERT_TRUE(executor.ok()) << executor.status();
  emulation::FailCall("kernel", 5, cudaErrorIllegalAddress);
  EXPECT_FALSE(Step(**executor, 2, 9, 1).ok());
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_THAT(lost[0], HasSubstr("cudaErrorIllegalAddress"));
  EXPECT_FALSE(Step(**executor, 1, 9).ok());
  EXPECT_EQ(lost.size(), 1u) << "it is said once";
}

INSTANTIATE_TEST_SUITE_P(Kinds, EncoderFaults, testing::Values("bert-mean", "bert-rerank", "clip"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tandem::worker::cuda
