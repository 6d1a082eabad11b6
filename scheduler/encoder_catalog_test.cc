// What the core plans with for an encoder: the CPU's amounts, and a GPU's where a GPU takes others.
#include "scheduler/encoder_catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/cuda_memory.h"
#include "base/model/image_limits.h"

namespace tandem::scheduler {
namespace {

using model::DType;

std::string ClipFolder() {
  const char* const root = std::getenv("TANDEM_SOURCE_DIR");
  return absl::StrCat(root == nullptr ? "." : root, "/tests/golden/encoders/clip");
}

core::ModelSpec LoadClip(const std::string& dtype) {
  config::ModelConfig config;
  config.name = "clip";
  config.task = "embed";
  config.dtype = dtype;
  config.max_num_seqs = 8;
  const absl::StatusOr<ServedModel> model = LoadEncoder(config, ClipFolder());
  EXPECT_TRUE(model.ok()) << dtype << ": " << model.status();
  return model.ok() ? model->spec : core::ModelSpec();
}

TEST(EncoderCatalogTest, AGpuIsPlannedByItsOwnFormula) {
  const auto config = model::ReadClipConfig(ClipFolder(), "embed");
  ASSERT_TRUE(config.ok()) << config.status();
  const struct {
    const char* dtype;
    DType on_cpu, on_gpu;
  } kCases[] = {{"auto", DType::kFloat32, DType::kFloat16},  // of files in float32
                {"float16", DType::kFloat16, DType::kFloat16},
                {"bfloat16", DType::kBFloat16, DType::kBFloat16},
                {"float32", DType::kFloat32, DType::kFloat32}};
  for (const auto& one : kCases) {
    const core::ModelSpec spec = LoadClip(one.dtype);
    ASSERT_EQ(spec.costs.size(), 1u);
    const core::KindCost cpu = spec.costs[0].On("cpu"), gpu = spec.costs[0].On("cuda");
    const int64_t arena = model::SizeClipArena(*config, spec.max_batch_tokens, 8).total_bytes;
    EXPECT_EQ(cpu.static_bytes.value, model::ClipWeightBytes(*config, one.on_cpu) + arena + model::kImageDecodeBytes)
        << one.dtype;
    const model::CudaMemory memory = model::CudaMemoryOfClip(
        *config, {.dtype = one.on_gpu, .max_batch_tokens = spec.max_batch_tokens, .max_sequences = 8});
    EXPECT_EQ(gpu.static_bytes.value, memory.Static()) << one.dtype;
    EXPECT_EQ(gpu.kv_bytes_per_token.value, cpu.kv_bytes_per_token.value) << "the queue is the host's on either";
  }
}

}  // namespace
}  // namespace tandem::scheduler
