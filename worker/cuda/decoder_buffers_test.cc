#include "worker/cuda/decoder_buffers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/ops/decode_attention.h"

namespace tandem::worker::cuda {
namespace {

model::DecoderConfig Config() {
  model::DecoderConfig config;
  config.layers = 3;
  config.hidden = 64;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 24;
  config.intermediate = 96;
  config.vocab = 1000;
  config.max_positions = 512;
  config.windows.assign(3, 0);
  return config;
}

DecoderLayout Layout(const model::DecoderConfig& config, int32_t ranks, bool first) {
  return {.config = &config,
          .shape = *model::ShapeOfRank(config, ranks),
          .limits = {.tokens = 32, .sequences = 4, .positions = 512},
          .first_rank = first};
}

TEST(DecoderBuffers, WhatIsCountedIsWhatIsTaken) {
  const model::DecoderConfig config = Config();
  for (const int32_t ranks : {1, 2}) {
    const DecoderLayout layout = Layout(config, ranks, true);
    const int64_t bytes = DecoderBufferBytes(layout);
    std::vector<uint8_t> memory(static_cast<size_t>(bytes));
    MemoryCursor cursor(memory.data(), bytes);
    const DecoderBuffers buffers = TakeDecoderBuffers(layout, &cursor);
    EXPECT_EQ(cursor.taken(), bytes);
    EXPECT_EQ(reinterpret_cast<uint8_t*>(buffers.residual), memory.data());
    EXPECT_LE(reinterpret_cast<uint8_t*>(buffers.tables + 4 * 32), memory.data() + bytes);
  }
}

TEST(DecoderBuffers, SumUpToTheFormula) {
  const model::DecoderConfig config = Config();
  // One rank, 32 tokens, 4 sequences; all in bytes, and every one a multiple of the alignment already.
  const int64_t residual = 32 * 64 * 4;
  const int64_t normed = 32 * 64 * 2;
  const int64_t mlp = 32 * 2 * 96 * 2 + 32 * 96 * 2;
  const int64_t attention = 32 * (8 + 2 * 2) * 24 * 2 + 32 * 8 * 24 * 2;
  const int64_t frequencies = 256;
  const int64_t angles = 32 * 24 * 4;
  const int64_t logits = 4 * 1024 * 4;
  const int64_t step = 9 * 256;
  const int64_t reports = 4 * 544 + 128;
  const int64_t best_workspace = 4 * 544 + 128;
  const int64_t tables = 4 * 32 * 4;
  EXPECT_EQ(DecoderBufferBytes(Layout(config, 1, true)),
            residual + normed + std::max(mlp, attention) + frequencies + angles +
                model::RoundUp(DecodeWorkspaceBytes(4, 8, 24, 512), kDeviceAlignment) + logits + kMatmulWorkspaceBytes +
                step + reports + best_workspace + tables);
}

TEST(DecoderBuffers, OnlyTheFirstOfSeveralCollectsLogits) {
  const model::DecoderConfig config = Config();
  const int64_t gathered = 4 * 1024 * 4 + 2 * 4 * 544;
  EXPECT_EQ(DecoderBufferBytes(Layout(config, 2, true)) - DecoderBufferBytes(Layout(config, 2, false)), gathered);
}

TEST(DecoderBuffers, ABlockIsWhatPlacementCounts) {
  const model::DecoderConfig config = Config();
  for (const int32_t ranks : {1, 2, 4}) {
    const DecoderLayout layout = Layout(config, ranks, true);
    EXPECT_EQ(KvBlockBytes(layout),
              kBlockTokens * model::KvBytesPerToken(config, layout.shape, model::DType::kBFloat16));
  }
}

}  // namespace
}  // namespace tandem::worker::cuda
