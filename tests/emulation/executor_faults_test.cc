// What the CUDA executor does when the device refuses: memory, graphs, and errors that stay.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/emulation/control.h"
#include "tests/gpu/gpu_model_for_test.h"

namespace tandem::worker::cuda {
namespace {

using testing::HasSubstr;

class Faults : public testing::Test {
 protected:
  Faults() { emulation::SetMachine({}); }
  ~Faults() override { emulation::SetMachine({}); }

  absl::StatusOr<std::unique_ptr<Executor>> Load() { return LoadOnDevice(options_, &control_); }

  absl::StatusOr<absl::Span<const float>> Step(Executor* executor, int32_t tokens) {
    const std::vector<TokenId> ids(static_cast<size_t>(tokens), 3);
    const std::vector<BlockId> blocks = {0, 1, 2, 3};
    const SequenceInput sequence{ids, 0, blocks, true};
    return executor->Run({{sequence}});
  }

  SoloCommunicator control_;
  CudaExecutorOptions options_ = SmallOptions(GoldenFolder("qwen2-bias"));
};

// Fails each allocation of a load in turn, until a load gets through.
TEST_F(Faults, AnAllocationThatFailsLeavesNothingBehind) {
  for (const char* call : {"cudaMalloc", "cudaMallocHost"}) {  // The second stands for both ways to page-locked memory.
    int failed = 0;
    for (int nth = 1;; ++nth) {
      ASSERT_LT(nth, 50);
      emulation::SetMachine({});
      emulation::FailCall(call, nth, cudaErrorMemoryAllocation);
      auto executor = Load();
      absl::Status status = executor.status();
      if (status.ok()) status = (*executor)->AllocateKv(8);
      if (status.ok()) break;
      ++failed;
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << call << " " << nth << ": " << status;
      EXPECT_THAT(std::string(status.message()), testing::ContainsRegex("[0-9]+ (page-locked )?bytes"));
      executor = absl::UnknownError("destroyed");
      EXPECT_EQ(emulation::AllocatedBytes(0), 0u) << call << " " << nth;
    }
    EXPECT_GE(failed, 3) << call;
  }
}

TEST_F(Faults, ADeviceThatIsTooSmallSaysWhatIsMissing) {
  emulation::SetMachine({.memory_bytes = 24 << 20});
  const auto executor = Load();
  EXPECT_TRUE(absl::IsResourceExhausted(executor.status())) << executor.status();
  EXPECT_THAT(std::string(executor.status().message()), HasSubstr("25165824 are free"));
  EXPECT_EQ(emulation::AllocatedBytes(0), 0u);
}

TEST_F(Faults, WithoutGraphsStepsAreComputedLaunchByLaunch) {
  auto captured = Load();
  ASSERT_TRUE(captured.ok()) << captured.status();
  ASSERT_TRUE((*captured)->AllocateKv(8).ok());
  const auto wanted = Step(captured->get(), 1);
  ASSERT_TRUE(wanted.ok()) << wanted.status();
  const int64_t launched = emulation::CallsOf("cudaGraphLaunch");
  EXPECT_EQ(launched, 1);

  for (const char* call : {"cudaStreamBeginCapture", "cudaGraphInstantiate", "cudaGraphUpload"}) {
    emulation::FailCall(call, 1, cudaErrorNotSupported);
    auto eager = Load();
    ASSERT_TRUE(eager.ok()) << call << ": " << eager.status();
    ASSERT_TRUE((*eager)->AllocateKv(8).ok()) << call;
    const auto got = Step(eager->get(), 1);
    ASSERT_TRUE(got.ok()) << call << ": " << got.status();
    EXPECT_LE(RelativeError({got->begin(), got->end()}, {wanted->begin(), wanted->end()}), 1.5e-2f) << call;
    EXPECT_EQ(emulation::CallsOf("cudaGraphLaunch"), launched) << call;
  }
}

TEST_F(Faults, AStepAllocatesNothing) {
  auto executor = Load();
  ASSERT_TRUE(executor.ok()) << executor.status();
  ASSERT_TRUE((*executor)->AllocateKv(8).ok());
  const int64_t device = emulation::CallsOf("cudaMalloc");
  const int64_t host = emulation::CallsOf("cudaMallocHost");
  for (const int32_t tokens : {1, 2, 7, 9, 17, 64}) ASSERT_TRUE(Step(executor->get(), tokens).ok()) << tokens;
  EXPECT_EQ(emulation::CallsOf("cudaMalloc"), device);
  EXPECT_EQ(emulation::CallsOf("cudaMallocHost"), host);
}

// At any number of tokens: between two powers of two lies a bucket of its own, whatever a full step has.
TEST_F(Faults, AStepChoosesNothing) {
  options_.max_batch_tokens = 70;
  auto executor = Load();
  ASSERT_TRUE(executor.ok()) << executor.status();
  ASSERT_TRUE((*executor)->AllocateKv(8).ok());
  const int64_t asked = emulation::CallsOf("cublasLtMatmulAlgoGetHeuristic");
  EXPECT_GT(asked, 0);
  for (const int32_t tokens : {1, 9, 16, 17, 33, 63, 64}) ASSERT_TRUE(Step(executor->get(), tokens).ok()) << tokens;
  EXPECT_EQ(emulation::CallsOf("cublasLtMatmulAlgoGetHeuristic"), asked);
}

TEST_F(Faults, AnErrorThatStaysEndsTheProcess) {
  std::vector<std::string> lost;
  options_.on_lost = [&lost](absl::string_view reason) { lost.emplace_back(reason); };
  auto executor = Load();
  ASSERT_TRUE(executor.ok()) << executor.status();
  ASSERT_TRUE((*executor)->AllocateKv(8).ok());
  emulation::FailCall("kernel", 5, cudaErrorIllegalAddress);
  const auto ran = Step(executor->get(), 9);
  EXPECT_FALSE(ran.ok());
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_THAT(lost[0], HasSubstr("cudaErrorIllegalAddress"));
  EXPECT_FALSE(control_.Health().ok()) << "the group is told";
  EXPECT_FALSE(Step(executor->get(), 9).ok());
  EXPECT_EQ(lost.size(), 1u) << "it is said once";
}

}  // namespace
}  // namespace tandem::worker::cuda
