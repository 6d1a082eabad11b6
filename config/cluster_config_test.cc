#include "config/cluster_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace tandem::config {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class ClusterConfigTest : public ::testing::Test {
 protected:
  ClusterConfigTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-config-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~ClusterConfigTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& yaml) const {
    const std::string path = (folder_ / "cluster.yaml").string();
    std::ofstream(path, std::ios::binary) << yaml;
    return path;
  }
  absl::StatusOr<LoadedConfig> Load(const std::string& yaml) const {
    return LoadClusterConfig(Write(yaml), flags_, env_);
  }

  // What is wrong with `yaml`, without the folder's name: "cluster.yaml:3: ...".
  std::string Wrong(const std::string& yaml) const {
    const auto loaded = Load(yaml);
    if (loaded.ok()) return "nothing";
    std::string message(loaded.status().message());
    const std::string prefix = folder_.string() + "/";
    for (size_t at; (at = message.find(prefix)) != std::string::npos;) message.erase(at, prefix.size());
    return message;
  }

  static std::string Origin(const LoadedConfig& loaded, const std::string& key) {
    for (const Setting& setting : loaded.settings) {
      if (setting.key == key) return setting.origin;
    }
    return "no such key";
  }

  std::filesystem::path folder_;
  Environment env_ = {{"HOME", "/home/ada"}};
  std::vector<FlagValue> flags_;
};

constexpr char kWhole[] = R"(profile: production
server: {clients: 127.0.0.1:50051, workers: 127.0.0.1:50061, admin: 127.0.0.1:50052, http: 127.0.0.1:8000, metrics: 127.0.0.1:9464}
devices: {select: all, memory_utilization: 0.90, reserve: 0}
models:
  - {name: chat, aliases: [gpt-3.5-turbo], path: /models/mistral-7b, task: generate, tensor_parallel: auto, replicas: {min: 1, max: 4}}
  - {name: minilm, path: /models/all-MiniLM-L6-v2, task: embed, replicas: 1}
)";

TEST_F(ClusterConfigTest, ReadsTheDocumentedExample) {
  const auto loaded = Load(kWhole);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const ClusterConfig& config = loaded->config;
  EXPECT_EQ(config.server.clients, "127.0.0.1:50051");
  EXPECT_THAT(config.devices.select, IsEmpty());
  EXPECT_DOUBLE_EQ(config.devices.memory_utilization, 0.9);
  ASSERT_EQ(config.models.size(), 2u);
  EXPECT_THAT(config.models[0].aliases, ElementsAre("gpt-3.5-turbo"));
  EXPECT_EQ(config.models[0].tensor_parallel, 0);
  EXPECT_EQ(config.models[0].replicas_min, 1);
  EXPECT_EQ(config.models[0].replicas_max, 4);
  EXPECT_EQ(config.models[1].task, "embed");
  EXPECT_EQ(config.models[1].replicas_max, 1);
  EXPECT_THAT(loaded->warnings, IsEmpty());
}

TEST_F(ClusterConfigTest, ReadsEveryKey) {
  const auto loaded = Load(R"(
state_dir: state
model_root: /models
time_scale: 2.5
server: {stop_grace: 90s, reflection: never}
devices:
  select: [cpu:0, "cpu:1", cuda:GPU-12ab, sim:A100]
  cpu_memory: 4GiB
  cpu_threads: 3
  sim_memory: 80GiB
  sim_speedup: 0
  reserve: 1GiB
scheduling: {waiting_room_requests: 7, waiting_room_tokens: 99, waiting_room_bytes: 1MiB, class_room_percent: 70, overcommit: 1.5, step_budget: 50ms, prefix_cache: false, sharing: false, move_gain: 0.3, link_probe: periodic}
models:
- name: m
  path: org/name
  tensor_parallel: 4
  dtype: bfloat16
  max_model_len: 4096
  memory_utilization: 0.5
  max_num_seqs: 32
  priority: -5
  chat_template: chat.jinja
)");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const ClusterConfig& config = loaded->config;
  EXPECT_EQ(config.state_dir, (folder_ / "state").string()) << "relative to the file, not to the working folder";
  EXPECT_EQ(config.model_root, "/models");
  EXPECT_DOUBLE_EQ(config.time_scale, 2.5);
  EXPECT_EQ(config.server.stop_grace, absl::Seconds(90));
  EXPECT_EQ(config.server.reflection, "never");
  EXPECT_THAT(config.devices.select, ElementsAre("cpu:0", "cpu:1", "cuda:GPU-12ab", "sim:A100"));
  EXPECT_EQ(config.devices.cpu_memory_bytes, 4ull << 30);
  EXPECT_EQ(config.devices.cpu_threads, 3);
  EXPECT_EQ(config.devices.sim_memory_bytes, 80ull << 30);
  EXPECT_EQ(config.devices.sim_speedup, 0);
  EXPECT_EQ(config.devices.reserve_bytes, 1ull << 30);
  EXPECT_EQ(config.scheduling.waiting_room_requests, 7);
  EXPECT_EQ(config.scheduling.waiting_room_tokens, 99);
  EXPECT_EQ(config.scheduling.waiting_room_bytes, 1 << 20);
  EXPECT_EQ(config.scheduling.class_room_percent, 70);
  EXPECT_DOUBLE_EQ(config.scheduling.overcommit, 1.5);
  EXPECT_EQ(config.scheduling.step_budget, absl::Milliseconds(50));
  EXPECT_FALSE(config.scheduling.prefix_cache);
  EXPECT_FALSE(config.scheduling.sharing);
  EXPECT_DOUBLE_EQ(config.scheduling.move_gain, 0.3);
  EXPECT_EQ(config.scheduling.link_probe, "periodic");
  const ModelConfig& model = config.models.at(0);
  EXPECT_EQ(model.path, "org/name") << "each machine resolves it under its own root";
  EXPECT_EQ(model.tensor_parallel, 4);
  EXPECT_EQ(model.dtype, "bfloat16");
  EXPECT_EQ(model.max_model_len, 4096);
  EXPECT_DOUBLE_EQ(model.memory_utilization, 0.5);
  EXPECT_EQ(model.max_num_seqs, 32);
  EXPECT_EQ(model.priority, -5);
  EXPECT_EQ(model.chat_template, (folder_ / "chat.jinja").string());
}

TEST_F(ClusterConfigTest, WithoutAFileThereAreDefaults) {
  const auto loaded = LoadClusterConfig("", {}, env_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.server.clients, "127.0.0.1:50051");
  EXPECT_EQ(loaded->config.state_dir, "/home/ada/.local/state/tandem");
  EXPECT_DOUBLE_EQ(loaded->config.devices.memory_utilization, 0.9);
  EXPECT_TRUE(loaded->config.models.empty());
}

TEST_F(ClusterConfigTest, AnEmptyFileIsValid) {
  EXPECT_EQ(Wrong(""), "nothing");
  EXPECT_EQ(Wrong("# only a comment\n"), "nothing");
  EXPECT_EQ(Wrong("server:\nmodels:\n"), "nothing");
}

TEST_F(ClusterConfigTest, AProfileChoosesTheUtilisationUnlessItIsGiven) {
  EXPECT_DOUBLE_EQ(Load("profile: development\n")->config.devices.memory_utilization, 0.80);
  EXPECT_DOUBLE_EQ(Load("profile: staging\n")->config.devices.memory_utilization, 0.85);
  const auto both = Load("profile: staging\ndevices: {memory_utilization: 0.5}\n");
  EXPECT_DOUBLE_EQ(both->config.devices.memory_utilization, 0.5);
  EXPECT_EQ(Origin(*Load("profile: staging\n"), "devices.memory_utilization"), "profile staging");
}

TEST_F(ClusterConfigTest, EachLayerWinsOverTheNextAndIsNamed) {
  const std::string yaml = "server:\n  clients: 127.0.0.1:1001\n  workers: 127.0.0.1:1002\n  admin: 127.0.0.1:1003\n";
  env_["TANDEM_SERVER_WORKERS"] = "127.0.0.1:2002";
  env_["TANDEM_SERVER_ADMIN"] = "127.0.0.1:2003";
  flags_ = {{"server.admin", "127.0.0.1:3003", "--admin"}};
  const auto loaded = Load(yaml);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.server.clients, "127.0.0.1:1001");
  EXPECT_EQ(loaded->config.server.workers, "127.0.0.1:2002");
  EXPECT_EQ(loaded->config.server.admin, "127.0.0.1:3003");
  EXPECT_THAT(Origin(*loaded, "server.clients"), EndsWith("cluster.yaml:2"));
  EXPECT_EQ(Origin(*loaded, "server.workers"), "environment TANDEM_SERVER_WORKERS");
  EXPECT_EQ(Origin(*loaded, "server.admin"), "--admin");
  EXPECT_EQ(Origin(*loaded, "server.http"), "default");
}

TEST_F(ClusterConfigTest, AModelsKeysHaveOrigins) {
  const auto loaded = Load("models:\n- name: m\n  path: p\n");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(Origin(*loaded, "models.m.path"), EndsWith("cluster.yaml:3"));
  EXPECT_EQ(Origin(*loaded, "models.m.dtype"), "default");
}

TEST_F(ClusterConfigTest, WrongFilesAreNamedWithTheirLine) {
  EXPECT_EQ(Wrong("profile: staging\nserver:\n  client: 127.0.0.1:1\n"),
            "cluster.yaml:3: server.client: unknown key (did you mean \"clients\"?)");
  EXPECT_EQ(Wrong("colour: red\n"),
            "cluster.yaml:1: colour: unknown key; known here: devices, log, metrics, model_root, models, profile, "
            "scheduling, security, server, "
            "state_dir, time_scale");
  EXPECT_EQ(Wrong("models:\n- {name: a, path: b}\n- {name: c, path: d, dtyp: auto}\n"),
            "cluster.yaml:3: models[1].dtyp: unknown key (did you mean \"dtype\"?)");
  EXPECT_EQ(Wrong("profile: prod\n"),
            "cluster.yaml:1: profile: \"prod\" is not one of development, staging, production");
  EXPECT_EQ(Wrong("\n\ntime_scale: fast\n"), "cluster.yaml:3: time_scale: \"fast\" is not a number");
  EXPECT_EQ(Wrong("devices: {memory_utilization: 1.5}\n"),
            "cluster.yaml:1: devices.memory_utilization: 1.5 is out of range; above 0, at most 1");
  EXPECT_THAT(Wrong("devices:\n  cpu_memory: 4G\n"),
              StartsWith("cluster.yaml:2: devices.cpu_memory: \"4G\" is not a size"));
  EXPECT_THAT(Wrong("devices: {cpu_memory: 1KiB}\n"), HasSubstr("too little for any model"));
  EXPECT_THAT(Wrong("devices: {select: [cpu:0, gpu:1]}\n"), HasSubstr("\"gpu:1\" is not a device"));
  EXPECT_THAT(Wrong("devices: {select: [cpu:0, cpu:0]}\n"), HasSubstr("device cpu:0 is named twice"));
  EXPECT_THAT(Wrong("devices: {select: []}\n"), HasSubstr("no device"));
  EXPECT_THAT(Wrong("server: {clients: 50051}\n"),
              HasSubstr("cluster.yaml:1: server.clients: \"50051\" is not an address"));
  EXPECT_EQ(Wrong("models:\n- {name: m}\n"), "cluster.yaml:2: models[0].path: a model needs it");
  EXPECT_EQ(Wrong("models:\n- {path: m}\n"), "cluster.yaml:2: models[0].name: a model needs it");
  EXPECT_THAT(Wrong("models:\n- {name: \"a b\", path: m}\n"), HasSubstr("\"a b\" is not a name"));
  EXPECT_THAT(Wrong("models:\n- {name: m, path: ../secrets}\n"), HasSubstr("may not leave its root"));
  EXPECT_THAT(Wrong("models:\n- {name: m, path: p, tensor_parallel: 0}\n"), HasSubstr("neither auto nor a number"));
  EXPECT_THAT(Wrong("models:\n- {name: m, path: p, replicas: {min: 3, max: 2}}\n"), HasSubstr("min 3 is above max 2"));
  EXPECT_THAT(Wrong("models:\n- {name: m, path: p, replicas: {min: 3}}\n"), HasSubstr("needs both min and max"));
  EXPECT_THAT(Wrong("models:\n- {name: m, path: p, replicas: {mim: 3}}\n"), HasSubstr("did you mean \"min\"?"));
  EXPECT_THAT(Wrong("models:\n- {name: m, path: p, task: chat}\n"), HasSubstr("not one of generate, embed, rerank"));
}

TEST_F(ClusterConfigTest, WrongShapesAreNamedWithTheirLine) {
  EXPECT_EQ(Wrong("- a\n- b\n"), "cluster.yaml:1: expected a section of keys, found a list");
  EXPECT_EQ(Wrong("server: 127.0.0.1:1\n"), "cluster.yaml:1: server: expected a section of keys, found a value");
  EXPECT_EQ(Wrong("profile:\n  - staging\n"), "cluster.yaml:2: profile: expected a value, found a list");
  EXPECT_EQ(Wrong("profile:\n"), "cluster.yaml:1: profile: has no value");
  EXPECT_EQ(Wrong("models: {name: m}\n"), "cluster.yaml:1: models: expected a list, found a section");
  EXPECT_EQ(Wrong("models:\n- just-a-name\n"), "cluster.yaml:2: models: expected a section of keys, found a value");
  EXPECT_EQ(Wrong("profile: staging\nprofile: staging\n"), "cluster.yaml:2: profile: given twice");
  EXPECT_EQ(Wrong("models:\n- {name: m, path: p, aliases: [[a]]}\n"),
            "cluster.yaml:2: models[0].aliases: a list of values, not of lists or sections");
  EXPECT_THAT(Wrong("server: {clients: [\n"), StartsWith("cluster.yaml:"));
  EXPECT_THAT(Wrong("server: {clients: [\n"), HasSubstr("not YAML"));
  EXPECT_THAT(Wrong("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
  EXPECT_THAT(Wrong(", a"), HasSubstr("cluster.yaml")) << "yaml-cpp finds documents without end in it";
  EXPECT_THAT(Wrong(std::string(2 << 20, '#')), HasSubstr("at most 1MiB"));
  EXPECT_THAT(Wrong(std::string(100000, '[')), HasSubstr("not YAML"));
  EXPECT_THAT(Wrong(std::string("\x00\x01\xff\xfe", 4)), testing::Not("nothing"));
}

TEST_F(ClusterConfigTest, NamesAndAliasesBelongToOneModel) {
  EXPECT_EQ(Wrong("models:\n- {name: a, path: p}\n- {name: a, path: q}\n"),
            "cluster.yaml:3: model \"a\" is taken by the model at cluster.yaml:2");
  EXPECT_EQ(Wrong("models:\n- {name: a, path: p}\n- {name: b, path: q, aliases: [a]}\n"),
            "cluster.yaml:3: alias \"a\" is taken by the model at cluster.yaml:2");
  EXPECT_EQ(Wrong("models:\n- {name: a, path: p, aliases: ['*']}\n- {name: b, path: q, aliases: ['*']}\n"),
            "cluster.yaml:3: alias \"*\" is taken by the alias at cluster.yaml:2");
}

TEST_F(ClusterConfigTest, AddressesAreCheckedTogether) {
  EXPECT_THAT(Wrong("server:\n  admin: 127.0.0.1:50051\n"),
              AllOf(HasSubstr("server.admin: port 50051 is taken by server.clients"), HasSubstr("cluster.yaml:2")));
  EXPECT_THAT(Wrong("server: {clients: 0.0.0.0:50051}\n"), HasSubstr("other machines can reach 0.0.0.0:50051"));
  EXPECT_EQ(Wrong("server: {clients: 0.0.0.0:50051, plaintext_beyond_loopback: true}\n"), "nothing");
  EXPECT_EQ(Wrong("server: {clients: 127.0.0.1:0, admin: 127.0.0.1:0}\n"), "nothing");
}

TEST_F(ClusterConfigTest, AFileThatIsNotThere) {
  const auto loaded = LoadClusterConfig((folder_ / "none.yaml").string(), {}, env_);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("none.yaml: no such file"));
  EXPECT_FALSE(LoadClusterConfig(folder_.string(), {}, env_).ok()) << "a folder is no file";
}

TEST_F(ClusterConfigTest, AWrongFlagOrVariableIsNamed) {
  flags_ = {{"time_scale", "-1", "--time-scale"}};
  EXPECT_THAT(Wrong(""), StartsWith("--time-scale: time_scale: -1 is out of range"));
  flags_.clear();
  env_["TANDEM_TIME_SCALE"] = "slow";
  EXPECT_EQ(Wrong(""), "environment TANDEM_TIME_SCALE: time_scale: \"slow\" is not a number");
}

TEST_F(ClusterConfigTest, VariablesOfVllmChangeTheFirstModel) {
  env_["VLLM_TENSOR_PARALLEL_SIZE"] = "2";
  env_["VLLM_GPU_MEMORY_UTILIZATION"] = "0.7";
  env_["VLLM_MAX_MODEL_LEN"] = "2048";
  const auto loaded = Load(kWhole);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.models[0].tensor_parallel, 2);
  EXPECT_DOUBLE_EQ(loaded->config.models[0].memory_utilization, 0.7);
  EXPECT_EQ(loaded->config.models[0].max_model_len, 2048);
  EXPECT_EQ(loaded->config.models[1].max_model_len, 0);
  EXPECT_EQ(Origin(*loaded, "models.chat.max_model_len"), "environment VLLM_MAX_MODEL_LEN");
}

TEST_F(ClusterConfigTest, VllmModelMakesOneWhereThereIsNone) {
  env_["VLLM_MODEL"] = "mistralai/Mistral-7B-v0.1";
  env_["VLLM_MAX_MODEL_LEN"] = "2048";
  const auto loaded = Load("");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->config.models.size(), 1u);
  EXPECT_EQ(loaded->config.models[0].name, "Mistral-7B-v0.1");
  EXPECT_EQ(loaded->config.models[0].path, "mistralai/Mistral-7B-v0.1");
  EXPECT_EQ(loaded->config.models[0].max_model_len, 2048);
}

TEST_F(ClusterConfigTest, WhatCannotBeHonouredIsSaid) {
  env_["GPU_COUNT"] = "2";
  env_["VLLM_API_KEY"] = "secret";
  env_["VLLM_MAX_NUM_SEQS"] = "8";
  env_["TANDEM_SERVER_CLIENT"] = "127.0.0.1:1";
  const auto loaded = Load("");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(loaded->warnings,
              testing::UnorderedElementsAre(HasSubstr("GPU_COUNT is set: it is not looked at"),
                                            HasSubstr("VLLM_MAX_NUM_SEQS is set, but no model is configured"),
                                            HasSubstr("did you mean \"TANDEM_SERVER_CLIENTS\"?")));
  for (const std::string& warning : loaded->warnings) EXPECT_THAT(warning, testing::Not(HasSubstr("secret")));
}

TEST_F(ClusterConfigTest, VllmsAddressIsTheGateways) {
  env_["VLLM_PORT"] = "8100";
  ASSERT_TRUE(Load("").ok());
  EXPECT_EQ(Load("")->config.server.http, "127.0.0.1:8100");
  env_["VLLM_HOST"] = "0.0.0.0";
  EXPECT_THAT(std::string(Load("").status().message()), HasSubstr("environment VLLM_HOST"));
  EXPECT_EQ(Load("server: {plaintext_beyond_loopback: true}")->config.server.http, "0.0.0.0:8100");
}

TEST_F(ClusterConfigTest, TheProfilesOfTheRepositoryAreValid) {
  const char* source = std::getenv("TANDEM_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  const std::pair<const char*, double> profiles[] = {{"development", 0.80}, {"staging", 0.85}, {"production", 0.90}};
  for (const auto& [profile, utilization] : profiles) {
    for (const char* kind : {"multi", "single", "cpu"}) {
      const auto loaded =
          LoadClusterConfig(absl::StrCat(source, "/config/", profile, "-", kind, ".yaml"), {}, {{"HOME", "/home/u"}});
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->config.devices.memory_utilization, utilization);
      EXPECT_THAT(loaded->warnings, IsEmpty());
      EXPECT_THAT(loaded->config.models[0].aliases, ElementsAre("gpt-3.5-turbo"));
    }
  }
}

TEST_F(ClusterConfigTest, VariablesThatAskForNothingAreSilent) {
  env_["CUDA_VISIBLE_DEVICES"] = "";
  env_["NVIDIA_VISIBLE_DEVICES"] = "void";
  env_["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID";
  env_["GPU_COUNT"] = "0";
  env_["VLLM_PIPELINE_PARALLEL_SIZE"] = "1";
  env_["VLLM_GPU_MEMORY_UTILIZATION"] = "0.0";
  env_["VLLM_MODEL"] = "";
  const auto loaded = Load(kWhole);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(loaded->warnings, IsEmpty());
  EXPECT_DOUBLE_EQ(loaded->config.models[0].memory_utilization, 1.0);
}

TEST_F(ClusterConfigTest, PipelineParallelismIsRefused) {
  env_["VLLM_PIPELINE_PARALLEL_SIZE"] = "2";
  EXPECT_THAT(Wrong(kWhole), HasSubstr("pipeline parallelism of 2 is not served"));
}

TEST_F(ClusterConfigTest, EveryPrintedValueReadsBack) {
  const auto loaded = Load(kWhole);
  ASSERT_TRUE(loaded.ok());
  std::vector<FlagValue> again;
  for (const Setting& setting : loaded->settings) {
    if (setting.key.rfind("models.", 0) != 0 && !setting.value.empty())
      again.push_back({setting.key, setting.value, "again"});
  }
  const auto second = LoadClusterConfig("", again, {});
  ASSERT_TRUE(second.ok()) << second.status();
  for (size_t i = 0; i < second->settings.size(); ++i) {
    EXPECT_EQ(second->settings[i].value, loaded->settings[i].value) << second->settings[i].key;
  }
}

TEST(SampleConfigsTest, AllThatWeShipAreValid) {
  const char* source = std::getenv("TANDEM_SOURCE_DIR");
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(source ? source : ".") / "config")) {
    if (entry.path().extension() != ".yaml") continue;
    const auto loaded = LoadClusterConfig(entry.path().string(), {}, {});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    ++files;
  }
  EXPECT_GE(files, 3);
}

}  // namespace
}  // namespace tandem::config
