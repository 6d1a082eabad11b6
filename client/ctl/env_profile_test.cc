#include "client/ctl/env_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace tandem::client::ctl {
namespace {

using ::testing::HasSubstr;

std::map<std::string, std::string> For(const std::string& mode, int gpus, const std::string& profile = "staging") {
  Machine machine;
  machine.gpus = gpus;
  const auto variables = VariablesFor(mode, profile, machine);
  EXPECT_TRUE(variables.ok()) << variables.status();
  return variables.ok() ? std::map<std::string, std::string>(variables->begin(), variables->end())
                        : std::map<std::string, std::string>();
}

TEST(EnvProfileTest, AMachineWithoutGpusIsNoMachineWithOne) {
  auto none = For("auto", 0);
  EXPECT_EQ(none["GPU_COUNT"], "0");
  EXPECT_EQ(none["CUDA_VISIBLE_DEVICES"], "");
  EXPECT_EQ(none["VLLM_GPU_MEMORY_UTILIZATION"], "0.0");
  EXPECT_EQ(For("auto", 1)["GPU_COUNT"], "1");
}

TEST(EnvProfileTest, AllGpusAreUsedAndHowManyRanksAGroupHasIsLeftToAuto) {
  auto three = For("detect", 3, "production");
  EXPECT_EQ(three["CUDA_VISIBLE_DEVICES"], "0,1,2");
  EXPECT_FALSE(three.contains("VLLM_TENSOR_PARALLEL_SIZE"));
  EXPECT_EQ(three["VLLM_GPU_MEMORY_UTILIZATION"], "0.90");
  const Variables variables(three.begin(), three.end());
  EXPECT_THAT(WithVariables("VLLM_TENSOR_PARALLEL_SIZE=2\n", variables), HasSubstr("VLLM_TENSOR_PARALLEL_SIZE=2\n"))
      << "who set it keeps it";
}

TEST(EnvProfileTest, AModeThatTheMachineCannotHaveIsRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(VariablesFor("multi", "staging", {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(VariablesFor("some", "staging", {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(VariablesFor("cpu", "prod", {}).status()));
}

TEST(EnvProfileTest, TwiceChangesNothingMore) {
  const Variables variables = {{"A", "1"}, {"B", ""}};
  const std::string once = WithVariables("# mine\nA=0\nexport A=5\nOTHER=x\n", variables);
  EXPECT_EQ(once, "# mine\nA=1\nOTHER=x\nB=\n");
  EXPECT_EQ(WithVariables(once, variables), once);
  EXPECT_EQ(WithVariables("", variables), "A=1\nB=\n");
}

}  // namespace
}  // namespace tandem::client::ctl
