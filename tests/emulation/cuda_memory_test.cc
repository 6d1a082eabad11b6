// What placement plans with (base/model/cuda_memory.h) against what the executor takes of an emulated device: each
// model family, one rank and both of two, and encoders.
#include "base/model/cuda_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "tests/emulation/control.h"
#include "tests/gpu/gpu_model_for_test.h"
#include "worker/cuda/encoder_executor.h"

namespace tandem::worker::cuda {
namespace {

// The least that is told apart from a buffer's padding.
constexpr int64_t kTolerance = 64 << 10;

class CudaMemory : public testing::TestWithParam<const char*> {};

TEST_P(CudaMemory, TheFormulaIsWhatIsTaken) {
  const CudaExecutorOptions options = SmallOptions(GoldenFolder(GetParam()));
  const auto config = model::ReadDecoderConfig(options.folder);
  ASSERT_TRUE(config.ok()) << config.status();
  for (const int ranks : {1, 2}) {
    emulation::SetMachine({.devices = 2});
    if (!model::ShapeOfRank(*config, ranks).ok()) continue;
    std::vector<int64_t> taken(static_cast<size_t>(ranks));
    TestModel loaded(
        [&](Communicator* control) -> absl::StatusOr<std::unique_ptr<Executor>> {
          auto executor = LoadOnDevice(options, control);
          // Beside weights and arena there is one block of one layer to warm up with, until there is a pool.
          if (executor.ok()) {
            const int64_t block = (*executor)->facts().kv_bytes_per_block;
            taken[static_cast<size_t>(control->rank())] =
                static_cast<int64_t>(emulation::AllocatedBytes(control->rank())) - block / config->layers;
          }
          return executor;
        },
        ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      const auto memory = model::CudaMemoryOfRank(*config, {.ranks = ranks,
                                                            .first_rank = rank == 0,
                                                            .max_batch_tokens = options.max_batch_tokens,
                                                            .max_sequences = options.max_sequences});
      ASSERT_TRUE(memory.ok()) << memory.status();
      const int64_t counted = memory->weight_bytes + memory->arena_bytes;
      EXPECT_LE(std::abs(counted - taken[static_cast<size_t>(rank)]), kTolerance)
          << "rank " << rank << " of " << ranks << ": counted " << counted << ", taken "
          << taken[static_cast<size_t>(rank)];
      EXPECT_GT(memory->Static(), counted) << "what a config does not tell is allowed for";
      EXPECT_EQ(memory->communicator_bytes > 0, ranks > 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CudaMemory,
                         testing::Values("llama-tied-bf16", "llama-yarn-biases", "gpt2", "qwen2-bias", "qwen3",
                                         "phi3-fused"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// Nothing of an encoder is taken but weights and arena, so there is no slack: to the byte, for each kind of head, at
// sizes of a step that chance picked.
class CudaEncoderMemory : public testing::TestWithParam<const char*> {};

TEST_P(CudaEncoderMemory, TheFormulaIsWhatIsTaken) {
  const std::string folder = SourcePath(absl::StrCat("tests/golden/encoders/", GetParam()));
  const std::string task = absl::StrContains(GetParam(), "rerank") ? "rerank" : "embed";
  for (const auto& [tokens, sequences, dtype] :
       {std::tuple(1, 1, model::DType::kFloat16), std::tuple(131, 7, model::DType::kBFloat16)}) {
    emulation::SetMachine({.devices = 1});
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    const model::CudaEncoderQuery query{.dtype = dtype, .max_batch_tokens = tokens, .max_sequences = sequences};
    model::CudaMemory memory;
    if (model::IsClipFolder(folder)) {
      const auto config = model::ReadClipConfig(folder, task);
      ASSERT_TRUE(config.ok()) << config.status();
      memory = model::CudaMemoryOfClip(*config, query);
    } else {
      const auto config = model::ReadEncoderConfig(folder, task);
      ASSERT_TRUE(config.ok()) << config.status();
      memory = model::CudaMemoryOfEncoder(*config, query);
    }
    SoloCommunicator solo;
    const auto executor = LoadCudaEncoder({.folder = folder,
                                           .dtype = std::string(NameOf(dtype)),
                                           .max_batch_tokens = tokens,
                                           .max_sequences = sequences,
                                           .wait_limit = std::chrono::minutes(2)},
                                          task, &solo);
    ASSERT_TRUE(executor.ok()) << executor.status();
    EXPECT_EQ((*executor)->memory().weight_bytes, memory.weight_bytes);
    EXPECT_EQ((*executor)->memory().activation_bytes, memory.arena_bytes);
    EXPECT_EQ(static_cast<int64_t>(emulation::AllocatedBytes(0)), memory.weight_bytes + memory.arena_bytes);
    EXPECT_EQ((*executor)->facts().kv_bytes_per_block, memory.kv_bytes_per_token * kBlockTokens);
    EXPECT_GT(memory.Static(), memory.weight_bytes + memory.arena_bytes) << "a context is allowed for";
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, CudaEncoderMemory,
                         testing::Values("bert-mean", "roberta-last", "bert-rerank", "roberta-rerank", "clip"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace tandem::worker::cuda
