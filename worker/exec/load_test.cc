// What LoadCpuModel refuses, and that it does so before memory is taken; and that the memory formula is what is taken.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/model/json_fields.h"
#include "base/model/model_config.h"
#include "base/model/model_memory.h"
#include "base/model/temporary_folder_for_test.h"
#include "nlohmann/json.hpp"
#include "worker/exec/free_memory.h"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

const char* const kModels[] = {"llama-llama3-rope", "llama-tied-bf16", "llama-yarn-biases", "mistral-window",
                               "qwen2-bias",        "qwen3",           "phi3-fused",        "gpt2"};

std::string Folder(const char* name) { return SourcePath(absl::StrCat("tests/golden/models/", name)); }

// A copy of a golden model whose config can be changed.
class EditedModel {
 public:
  explicit EditedModel(const char* name) {
    for (const auto& entry : std::filesystem::directory_iterator(Folder(name))) {
      std::filesystem::copy(entry.path(), folder_.path(entry.path().filename().string()));
    }
  }
  void Set(const char* key, json value) {
    json config = json::parse(*model::ReadSmallFile(folder_.path("config.json"), 1 << 20));
    config[key] = std::move(value);
    folder_.Write("config.json", config.dump());
  }
  std::string path() const { return folder_.path(); }
  const model::TemporaryFolder& folder() const { return folder_; }

 private:
  model::TemporaryFolder folder_;
};

// A communicator that only says how many ranks there are: refusals come before the first collective.
class PretendGroup final : public Communicator {
 public:
  explicit PretendGroup(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  absl::Status AllReduceSum(absl::Span<float>) override { return absl::InternalError("not a group"); }
  absl::Status Gather(absl::Span<const float>, absl::Span<float>) override {
    return absl::InternalError("not a group");
  }
  absl::Status AllGather(absl::Span<const uint8_t>, absl::Span<uint8_t>) override {
    return absl::InternalError("not a group");
  }
  absl::Status Barrier() override { return absl::InternalError("not a group"); }
  absl::Status Health() const override { return absl::OkStatus(); }
  void Abort(absl::string_view) override {}

 private:
  const int size_;
};

std::string Refusal(const CpuModelOptions& options, int ranks = 1) {
  PretendGroup group(ranks);
  const auto loaded = LoadCpuModel(options, &group);
  return loaded.ok() ? "loaded" : std::string(loaded.status().message());
}

TEST(LoadCpuModel, TheFormulaIsWhatIsTaken) {
  for (const char* name : kModels) {
    const auto config = model::ReadDecoderConfig(Folder(name));
    ASSERT_TRUE(config.ok()) << config.status();
    for (const int ranks : {1, 2, 4}) {
      for (const auto& [dtype, stored] :
           {std::pair{"float32", model::DType::kFloat32}, std::pair{"bfloat16", model::DType::kBFloat16}}) {
        const auto expected = model::MemoryOfRank(
            *config, {.ranks = ranks, .stored_dtype = stored, .max_batch_tokens = 96, .max_sequences = 5});
        TestModel model({.folder = Folder(name), .dtype = dtype, .max_batch_tokens = 96, .max_sequences = 5}, ranks);
        const MemoryReport report = model.rank(0).memory();
        EXPECT_EQ(report.weight_bytes + report.packed_bytes, expected->weight_bytes) << name << " tp" << ranks << dtype;
        EXPECT_EQ(report.activation_bytes, expected->activation_bytes) << name << " tp" << ranks << dtype;
        const auto of_others = model::MemoryOfRank(
            *config,
            {.ranks = ranks, .stored_dtype = stored, .max_batch_tokens = 96, .max_sequences = 5, .first_rank = false});
        for (int rank = 1; rank < ranks; ++rank) {
          const MemoryReport other = model.rank(rank).memory();
          EXPECT_EQ(other.weight_bytes + other.packed_bytes, of_others->weight_bytes) << name << " rank " << rank;
          EXPECT_EQ(other.activation_bytes, of_others->activation_bytes) << name << " rank " << rank;
        }
        EXPECT_EQ(model.rank(0).facts().kv_bytes_per_block, 16 * expected->kv_bytes_per_token);
        EXPECT_EQ(report.kv_bytes, TestModel::kBlocks * model.rank(0).facts().kv_bytes_per_block);
      }
    }
  }
}

TEST(LoadCpuModel, FactsOfTheModel) {
  TestModel model({.folder = Folder("llama-tied-bf16")}, 1);
  const ModelFacts& facts = model.rank(0).facts();
  EXPECT_EQ(facts.vocab_size, 203);
  EXPECT_EQ(facts.max_positions, 256);
  EXPECT_THAT(facts.eos_ids, testing::ElementsAre(2, 5));
  EXPECT_EQ(facts.revision.size(), 32u);
  EXPECT_THAT(model.rank(0).numerics_id(), HasSubstr("/bf16/tp1/"));
}

TEST(LoadCpuModel, TooLittleMemoryNamesNeededAndFree) {
  EXPECT_THAT(Refusal({.folder = Folder("gpt2"), .memory_limit_bytes = 1000}),
              AllOf(HasSubstr("rank 0 needs "), HasSubstr("1000 are free")));
}

TEST(LoadCpuModel, AKvPoolBeyondTheMachineNamesNeededAndFree) {
  PretendGroup alone(1);
  auto loaded = LoadCpuModel({.folder = Folder("gpt2")}, &alone);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const absl::Status refused = (*loaded)->AllocateKv(INT32_MAX);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.message(), AllOf(HasSubstr("2147483647 blocks needs "), HasSubstr(" are free")));
  EXPECT_FALSE((*loaded)->AllocateKv(0).ok());
  EXPECT_TRUE((*loaded)->AllocateKv(4).ok()) << "a refusal leaves nothing behind";
}

TEST(LoadCpuModel, OptionsOutOfRange) {
  const std::string folder = Folder("gpt2");
  EXPECT_THAT(Refusal({.folder = folder, .dtype = "float16"}), HasSubstr("dtype \"float16\" is not computed on CPU"));
  EXPECT_THAT(Refusal({.folder = folder, .isa = "sse9"}), HasSubstr("isa \"sse9\" is not known; choose auto"));
  EXPECT_THAT(Refusal({.folder = folder, .threads = 0}), HasSubstr("threads is 0"));
  EXPECT_THAT(Refusal({.folder = folder, .max_batch_tokens = -1}), HasSubstr("max_batch_tokens is -1"));
  EXPECT_THAT(Refusal({.folder = folder, .max_sequences = 0}), HasSubstr("max_sequences is 0"));
}

TEST(LoadCpuModel, DegreesThatDoNotDivide) {
  EXPECT_THAT(Refusal({.folder = Folder("gpt2")}, 3), HasSubstr("num_attention_heads 4 cannot be split over 3 ranks"));
  EXPECT_THAT(Refusal({.folder = Folder("gpt2")}, 8), HasSubstr("num_attention_heads 4 cannot be split over 8 ranks"));
}

TEST(LoadCpuModel, WeightsThatDoNotFitTheConfig) {
  EditedModel model("llama-tied-bf16");
  model.Set("num_hidden_layers", 3);
  EXPECT_THAT(Refusal({.folder = model.path()}),
              HasSubstr("the weights have no tensor \"model.layers.2.input_layernorm.weight\""));
  model.Set("num_hidden_layers", 2);
  model.Set("intermediate_size", 52);
  EXPECT_THAT(Refusal({.folder = model.path()}),
              HasSubstr("\"model.layers.0.mlp.gate_proj.weight\" has shape [48, 32], config.json asks for [52, 32]"));
  model.Set("intermediate_size", 48);
  model.Set("tie_word_embeddings", false);
  EXPECT_THAT(Refusal({.folder = model.path()}), HasSubstr("no tensor \"lm_head.weight\""));
}

TEST(LoadCpuModel, WeightsOfATypeThatIsNotComputed) {
  model::TemporaryFolder folder;
  folder.Write("config.json",
               R"({"architectures": ["GPT2LMHeadModel"], "n_embd": 2, "n_head": 1, "n_layer": 1, "n_positions": 4,
                   "vocab_size": 2})");
  folder.Write(
      "model.safetensors",
      model::SafetensorsFile(R"({"wte.weight": {"dtype": "I8", "shape": [2, 2], "data_offsets": [0, 4]}})", "abcd"));
  EXPECT_THAT(Refusal({.folder = folder.path()}), HasSubstr("tensor \"wte.weight\" has dtype I8"));
}

TEST(LoadCpuModel, FoldersThatAreNone) {
  model::TemporaryFolder folder;
  EXPECT_THAT(Refusal({.folder = folder.path()}), HasSubstr("config.json: no such file"));
  folder.Write("config.json", "{\"architectures\": [\"LlamaForCaus");
  EXPECT_THAT(Refusal({.folder = folder.path()}), HasSubstr("config.json: not valid JSON"));
}

TEST(CpuExecutor, AStepThatBreaksTheRulesIsRefusedWhole) {
  TestModel model({.folder = Folder("gpt2"), .max_batch_tokens = 8, .max_sequences = 2}, 1);
  Executor& executor = model.rank(0);
  const std::vector<TokenId> good(4, 1), many(9, 1), wild = {203}, negative = {-1};
  const std::vector<BlockId> blocks = {0}, none, beyond = {TestModel::kBlocks};
  const auto refusal = [&](std::vector<SequenceInput> sequences) {
    return std::string(executor.Run({absl::MakeConstSpan(sequences)}).status().message());
  };
  EXPECT_THAT(refusal({}), HasSubstr("step of 0 tokens"));
  EXPECT_THAT(refusal({{many, 0, blocks, true}}), HasSubstr("step of 9 tokens in 1 sequences, loaded for 8 in 2"));
  EXPECT_THAT(refusal({{good, 0, blocks}, {wild, 0, blocks}}), HasSubstr("sequence 1: token id 203, limit 203"));
  EXPECT_THAT(refusal({{negative, 0, blocks}}), HasSubstr("token id -1"));
  EXPECT_THAT(refusal({{good, 0, none}}), HasSubstr("blocks 0, limit 1"));
  EXPECT_THAT(refusal({{good, 0, beyond}}), HasSubstr("block 96, limit 96"));
  EXPECT_THAT(refusal({{good, 254, blocks}}), HasSubstr("position 258, limit 256"));
  EXPECT_THAT(refusal({{good, -1, blocks}}), HasSubstr("position"));
  EXPECT_EQ(executor.progress().load(), 0u);
  EXPECT_EQ(refusal({{good, 0, blocks, true}}), "");
  EXPECT_EQ(executor.progress().load(), 2u) << "one for each layer";
}

TEST(FreeMemory, TheTightestOfMachineAndGroups) {
  model::TemporaryFolder root;
  EXPECT_EQ(FreeMemoryBytes(root.path()), INT64_MAX);
  root.Write("proc/meminfo", "MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:  1000 kB\n");
  EXPECT_EQ(FreeMemoryBytes(root.path()), 1000 * 1024);
  root.Write("proc/self/cgroup", "0::/a/b\n");
  root.Write("sys/fs/cgroup/a/memory.max", "600000\n");
  root.Write("sys/fs/cgroup/a/memory.current", "500000\n");
  root.Write("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 30000\n");
  root.Write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.Write("sys/fs/cgroup/a/b/memory.current", "1\n");
  EXPECT_EQ(FreeMemoryBytes(root.path()), 130000);
}

}  // namespace
}  // namespace tandem::worker
