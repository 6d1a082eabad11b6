#include "client/ctl/serve_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "client/ctl/vllm_flags.h"

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

std::string Refused(const std::vector<std::string>& words) {
  ServeFlags flags;
  flags.model = "m";
  flags.others = SpelledOut(words);
  return std::string(PlanServe(flags, {}).status().message());
}

TEST(ServePlanTest, WhatWouldChangeAnswersIsRefused) {
  EXPECT_THAT(Refused({"--swap-space", "4", "--quantization=awq"}), HasSubstr("--quantization is not served"));
  EXPECT_THAT(Refused({"-q", "awq"}), HasSubstr("--quantization is not served"));
  EXPECT_EQ(Refused({"--swap-space", "4"}), "");
  EXPECT_THAT(Refused({"--enforce-eager", "stray"}), HasSubstr("does not belong to any flag"));
  EXPECT_THAT(Refused({"--hf-overrides", "{\"a\": 1}"}), HasSubstr("edit config.json in a copy"));
  EXPECT_THAT(Refused({"--task", "transcription"}), HasSubstr("--task transcription is not served"));
  EXPECT_THAT(Refused({"--no-such-flag"}), HasSubstr("neither ours nor a flag of vLLM"));
}

TEST(ServePlanTest, ARefusedFlagThatAsksForWhatIsSoIsTaken) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--hf-overrides", "{}"},
                                             {"--kv-cache-dtype=auto"},
                                             {"--no-enable-lora"},
                                             {"--enable-sleep-mode", "False"}}) {
    EXPECT_EQ(Refused(words), "") << words[0];
  }
}

TEST(ServePlanTest, AFlagTakesAsManyWordsAsWithVllm) {
  const auto strays = [](const std::vector<std::string>& words) {
    ForeignFlags read;
    EXPECT_EQ(ReadForeignFlags(SpelledOut(words), read), absl::OkStatus());
    return read.strays;
  };
  EXPECT_THAT(strays({"--hf-token", "--numa-bind", "true", "org/name"}), ElementsAre("org/name"));
  EXPECT_THAT(strays({"--hf-token", "hf_x", "org/name"}), ElementsAre("org/name"));
  EXPECT_THAT(strays({"org/name", "--cudagraph-capture-sizes", "1", "2", "4", "-ac", "{}"}), ElementsAre("org/name"));
  EXPECT_THAT(strays({"--moe-backend=triton", "org/name", "--no-enable-flashinfer-autotune"}), ElementsAre("org/name"));
  EXPECT_THAT(Refused({"-pcp", "2"}), HasSubstr("--prefill-context-parallel-size is not served"));
  EXPECT_THAT(Refused({"-sc", "{}"}), HasSubstr("--speculative-config is not served"));
  EXPECT_THAT(Refused({"-dpn=1"}), HasSubstr("--data-parallel-rank is not served"));
}

TEST(ServePlanTest, ACommandLineOfVllmMeansWhatItSays) {
  ServeFlags flags;
  flags.others = SpelledOut({"--enable_chunked_prefill=True", "org/name", "--no-enable-prefix-caching", "-dp", "2",
                             "--runner", "pooling", "--kv-cache-memory-bytes", "1048576", "--limit-mm-per-prompt",
                             "image=2", "--async-scheduling", "--seed=1"});
  const auto plan = PlanServe(flags, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const config::ClusterConfig config = Read(*plan);
  EXPECT_FALSE(config.scheduling.prefix_cache);
  ASSERT_EQ(config.models.size(), 1u);
  EXPECT_EQ(config.models[0].path, "org/name");
  EXPECT_EQ(config.models[0].task, "embed");
  EXPECT_EQ(config.models[0].replicas_min, 2);
  EXPECT_EQ(config.models[0].kv_memory_bytes, 1048576u);
}

TEST(ServePlanTest, CertificatesAreTheGateways) {
  ServeFlags flags;
  flags.model = "m";
  flags.host = "0.0.0.0";
  flags.others = {"--ssl-certfile", "pki/web.crt", "--ssl-keyfile=/pki/web.key", "--ssl-ca-certs", "/pki/ca.crt"};
  auto plan = PlanServe(flags, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  const security::DoorSettings door = Read(*plan).security.http;
  EXPECT_EQ(door.certificate, (std::filesystem::current_path() / "pki/web.crt").string());
  EXPECT_EQ(door.key, "/pki/web.key");
  EXPECT_EQ(door.client_ca, "/pki/ca.crt");
  EXPECT_EQ(door.client_certificates, "off") << "as with vLLM, a CA alone asks nobody";
  EXPECT_FALSE(Read(*plan).server.plaintext_beyond_loopback);
  flags.others.insert(flags.others.end(), {"--ssl-cert-reqs", "2", "--enable-ssl-refresh"});
  plan = PlanServe(flags, {});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(Read(*plan).security.http.client_certificates, "required");
  EXPECT_THAT(Refused({"--ssl-certfile", "a"}), HasSubstr("belong together"));
  EXPECT_THAT(Refused({"--ssl-ca-certs", "a"}), HasSubstr("need TLS"));
  EXPECT_THAT(Refused({"--ssl-cert-reqs", "3"}), HasSubstr("is not 0 (none), 1 (optional) or 2 (required)"));
}

TEST(ServePlanTest, FlagsAreSpelledAsForVllm) {
  EXPECT_THAT(SpelledOut({"-tp", "2", "-pp=1", "--gpu_memory_utilization", "0.5", "--served-model-name", "my_model",
                          "-O3", "--compilation_config.cudagraph_mode=NONE", "--max_model_len=8_000"}),
              ElementsAre("--tensor-parallel-size", "2", "--pipeline-parallel-size=1", "--gpu-memory-utilization",
                          "0.5", "--served-model-name", "my_model", "--compilation-config=3",
                          "--compilation-config.cudagraph_mode=NONE", "--max-model-len=8_000"));
}

}  // namespace
}  // namespace tandem::client::ctl
