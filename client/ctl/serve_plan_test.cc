#include "client/ctl/serve_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tandem::client::ctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What the plan's text means once it is read as any other file.
config::ClusterConfig Read(const ServePlan& plan) {
  std::string path = (std::filesystem::temp_directory_path() / "tandem-serve-XXXXXX").string();
  close(mkstemp(path.data()));
  std::ofstream(path) << plan.yaml;
  const auto loaded = config::LoadClusterConfig(path, {}, {{"HOME", "/home/u"}});
  std::filesystem::remove(path);
  EXPECT_TRUE(loaded.ok()) << loaded.status() << "\n" << plan.yaml;
  return loaded.ok() ? loaded->config : config::ClusterConfig();
}

TEST(ServePlanTest, TheLineOfAComposeFile) {
  ServeFlags flags;
  flags.model = "microsoft/DialoGPT-medium";
  flags.host = "0.0.0.0";
  flags.port = "8000";
  flags.gpu_memory_utilization = "0.8";
  flags.max_model_len = "1024";
  flags.dtype = "auto";
  const auto plan = PlanServe(flags, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const config::ClusterConfig config = Read(*plan);
  EXPECT_EQ(config.server.http, "0.0.0.0:8000");
  EXPECT_EQ(config.server.admin, "127.0.0.1:50052");
  EXPECT_EQ(config.devices.memory_utilization, 0.8);
  ASSERT_EQ(config.models.size(), 1u);
  EXPECT_EQ(config.models[0].name, "microsoft/DialoGPT-medium");
  EXPECT_THAT(config.models[0].aliases, ElementsAre("*"));
  EXPECT_EQ(config.models[0].max_model_len, 1024);
  EXPECT_EQ(config.models[0].tensor_parallel, 0);
}

TEST(ServePlanTest, ServedNamesAreTheOnlyNames) {
  ServeFlags flags;
  flags.model = "/models/with space";
  flags.served_model_names = {"local-model", "gpt-3.5-turbo"};
  flags.dtype = "half";
  const auto plan = PlanServe(flags, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const config::ClusterConfig config = Read(*plan);
  EXPECT_EQ(config.models[0].name, "local-model");
  EXPECT_THAT(config.models[0].aliases, ElementsAre("gpt-3.5-turbo"));
  EXPECT_EQ(config.models[0].path, "/models/with space");
  EXPECT_EQ(config.models[0].dtype, "float16");
}

TEST(ServePlanTest, VariablesStandBehindFlagsAndAreReadOnce) {
  ServeFlags flags;
  flags.tensor_parallel_size = "4";
  const auto plan = PlanServe(flags, {{"VLLM_MODEL", "m"}, {"VLLM_TENSOR_PARALLEL_SIZE", "2"}, {"VLLM_API_KEY", "k"}});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(Read(*plan).models[0].tensor_parallel, 4);
  EXPECT_EQ(plan->api_keys, "k");
  EXPECT_THAT(plan->consumed, ElementsAre("VLLM_MODEL", "VLLM_TENSOR_PARALLEL_SIZE", "VLLM_API_KEY"));
  EXPECT_EQ(plan->yaml.find("\"k\""), std::string::npos);
  flags.api_keys = {"a", "b"};
  EXPECT_EQ(PlanServe(flags, {{"VLLM_MODEL", "m"}, {"VLLM_API_KEY", "k"}})->api_keys, "a,b");
}

TEST(ServePlanTest, WhatWouldChangeAnswersIsRefused) {
  ServeFlags flags;
  flags.model = "m";
  flags.others = {"--swap-space", "4", "--quantization=awq"};
  EXPECT_THAT(std::string(PlanServe(flags, {}).status().message()), HasSubstr("--quantization is not served"));
  flags.others = {"--swap-space", "4"};
  EXPECT_TRUE(PlanServe(flags, {}).ok());
  flags.others = {"--enforce-eager", "stray"};
  EXPECT_THAT(std::string(PlanServe(flags, {}).status().message()), HasSubstr("does not belong to any flag"));
}

}  // namespace
}  // namespace tandem::client::ctl
