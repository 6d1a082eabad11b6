// Every operator at a slice of the shapes of a 7B model, and of groups of eight query heads: what it asks of memory,
// against bounds that are stated here. Prints the table of docs/cuda-kernels.md.
//
// A slice has full rows and full heads, and few of them: what a warp does is as in the whole.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/emulation/access_counts.h"
#include "worker/cuda/ops/activation.h"
#include "worker/cuda/ops/attention_case_for_test.h"
#include "worker/cuda/ops/decode_attention.h"
#include "worker/cuda/ops/device_for_test.h"
#include "worker/cuda/ops/embedding.h"
#include "worker/cuda/ops/gather.h"
#include "worker/cuda/ops/gemv.h"
#include "worker/cuda/ops/kernel_work.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/patches.h"
#include "worker/cuda/ops/pool.h"
#include "worker/cuda/ops/prefill_attention.h"
#include "worker/cuda/ops/rope.h"
#include "worker/cuda/ops/sampling.h"

namespace tandem::worker::cuda {
namespace {

using emulation::AccessKind;
using emulation::KernelCounts;

constexpr model::DType kType = model::DType::kBFloat16;

// Of one kernel.
struct Bounds {
  double passes = 1;   // of shared memory, for each one that is needed
  double reading = 1;  // least share of the sectors that were needed
  double writing = 1;
  double barriers = 0;  // of a block at most
};

std::vector<std::string>& Table() {
  static auto* const lines = new std::vector<std::string>;
  return *lines;
}

class KernelCountsTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    emulation::TakeCounts();
    emulation::CountAccesses(true);
  }
  void TearDown() override {
    emulation::CountAccesses(false);
    DeviceTest::TearDown();
  }
  static void TearDownTestSuite() {
    std::printf("| Kernel | Shape | Shared: passes / least | Read: sectors, needed | bytes a request | each sector |");
    std::printf(" Written: sectors, needed | bytes a request | Barriers |\n|---|---|---|---|---|---|---|---|---|\n");
    for (const std::string& line : Table()) std::printf("%s\n", line.c_str());
  }

  static int64_t BytesARequest(const emulation::AccessCounts& counts) {
    return counts.requests == 0 ? 0 : counts.bytes / counts.requests;
  }

  // Takes what the kernels of this name have asked for.
  static void Expect(const std::string& kernel, const std::string& shape, const Bounds& bounds) {
    for (const KernelCounts& one : Taken()) {
      if (one.kernel != kernel) continue;
      emulation::AccessCounts shared = one.of(AccessKind::kSharedRead);
      shared.Add(one.of(AccessKind::kSharedWrite));
      const emulation::AccessCounts& read = one.of(AccessKind::kGlobalRead);
      const emulation::AccessCounts& written = one.of(AccessKind::kGlobalWrite);
      Table().push_back(
          absl::StrFormat("| %s | %s | %s | %d, %.0f %% | %d | %.1f times | %d, %.0f %% | %d | %.3g |", kernel, shape,
                          shared.requests == 0 ? "none" : absl::StrFormat("%d / %d", shared.taken, shared.least),
                          read.taken, 100 * read.efficiency(), BytesARequest(read),
                          static_cast<double>(read.taken) / static_cast<double>(one.distinct_sectors[0]), written.taken,
                          100 * written.efficiency(), BytesARequest(written), one.barriers_per_block()));
      EXPECT_LE(shared.taken, bounds.passes * static_cast<double>(shared.least)) << kernel << " " << shape << "\n"
                                                                                 << LossesOf(one);
      EXPECT_GE(read.efficiency(), bounds.reading) << kernel << " " << shape << "\n" << LossesOf(one);
      EXPECT_GE(written.efficiency(), bounds.writing) << kernel << " " << shape << "\n" << LossesOf(one);
      EXPECT_LE(one.barriers_per_block(), bounds.barriers) << kernel << " " << shape;
      EXPECT_GT(read.requests, 0) << kernel << ": compiled without the hooks?";
      return;
    }
    ADD_FAILURE() << kernel << " was not launched";
  }

  // The sectors that the launches of these names touched hold what the work says, and little more: `slack` of it.
  static void ExpectWork(const std::vector<std::string>& kernels, const KernelWork& work, double slack) {
    int64_t read = 0;
    int64_t written = 0;
    for (const KernelCounts& one : Taken()) {
      if (std::find(kernels.begin(), kernels.end(), one.kernel) == kernels.end()) continue;
      read += 32 * one.distinct_sectors[0];
      written += 32 * one.distinct_sectors[1];
    }
    EXPECT_GE(read, work.read) << work.name;
    EXPECT_LE(static_cast<double>(read), static_cast<double>(work.read) * (1 + slack)) << work.name;
    EXPECT_GE(written, work.written) << work.name;
    EXPECT_LE(static_cast<double>(written), static_cast<double>(work.written) * (1 + slack) + 16384 * slack)
        << work.name;
  }

  // What was counted since the last call that a launch came before.
  static const std::vector<KernelCounts>& Taken() {
    static std::vector<KernelCounts> taken;
    std::vector<KernelCounts> more = emulation::TakeCounts();
    if (!more.empty()) taken = std::move(more);
    return taken;
  }

  // `contexts` tokens are in the cache.
  void Decode(int32_t heads, int32_t kv_heads, int32_t head_dim, const std::vector<int32_t>& contexts,
              int32_t max_context) {
    const AttentionCase one(1, kType, heads, kv_heads, head_dim, contexts);
    const int64_t stride = (heads + 2 * kv_heads) * head_dim;
    const int64_t width = heads * head_dim;
    const auto count = static_cast<int32_t>(contexts.size());
    const OnDevice<uint16_t> queries(BitsOf(Noise(2, contexts.size() * static_cast<size_t>(stride), kType), kType));
    const OnDevice<uint16_t> output(contexts.size() * static_cast<size_t>(width), 0);
    const OnDevice<float> workspace(
        static_cast<size_t>(DecodeWorkspaceBytes(count, heads, head_dim, max_context)) / sizeof(float), 0.0f);
    ASSERT_DONE(DecodeAttention({.queries = queries.data(),
                                 .query_stride = stride,
                                 .output = output.data(),
                                 .output_stride = width,
                                 .contexts = one.device_contexts->data(),
                                 .block_tables = one.device_tables->data(),
                                 .table_stride = one.table_stride,
                                 .sequences = count,
                                 .max_context = max_context,
                                 .heads = heads,
                                 .scale = one.scale,
                                 .kv = one.kv,
                                 .workspace = workspace.data()},
                                stream_));
  }

  // All tokens are new.
  void Prefill(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t tokens) {
    const AttentionCase one(1, kType, heads, kv_heads, head_dim, {tokens});
    const int64_t stride = (heads + 2 * kv_heads) * head_dim;
    const int64_t width = heads * head_dim;
    const OnDevice<uint16_t> queries(BitsOf(Noise(2, static_cast<size_t>(tokens * stride), kType), kType));
    const OnDevice<uint16_t> output(static_cast<size_t>(tokens * width), 0);
    const OnDevice<int32_t> begin(std::vector<int32_t>{0, tokens});
    const OnDevice<int32_t> start(std::vector<int32_t>{0});
    ASSERT_DONE(PrefillAttention({.queries = queries.data(),
                                  .query_stride = stride,
                                  .output = output.data(),
                                  .output_stride = width,
                                  .token_begin = begin.data(),
                                  .start = start.data(),
                                  .block_tables = one.device_tables->data(),
                                  .table_stride = one.table_stride,
                                  .sequences = 1,
                                  .max_tokens = tokens,
                                  .heads = heads,
                                  .scale = one.scale,
                                  .kv = one.kv},
                                 stream_));
  }
};

TEST_F(KernelCountsTest, Gemv) {
  struct Case {
    int32_t rows;
    int64_t inner;
    model::DType output;
  };
  for (const Case& one : {Case{1, 4096, kType}, Case{8, 4096, kType}, Case{1, 11008, model::DType::kFloat32}}) {
    constexpr int64_t kColumns = 64;
    const OnDevice<uint16_t> input(static_cast<size_t>(one.rows * one.inner), 0);
    const OnDevice<uint16_t> weight(static_cast<size_t>(kColumns * one.inner), 0);
    const OnDevice<float> output(static_cast<size_t>(one.rows * kColumns), 0);
    ASSERT_DONE(cuda::Gemv({.input = input.data(),
                            .input_stride = one.inner,
                            .weight = weight.data(),
                            .output = output.data(),
                            .output_stride = kColumns,
                            .output_type = one.output,
                            .accumulate = one.output == model::DType::kFloat32,
                            .rows = one.rows,
                            .columns = kColumns,
                            .inner = one.inner},
                           stream_));
    Expect("Gemv", absl::StrFormat("%d x %d%s", one.rows, one.inner, one.output == kType ? "" : ", adding"),
           {.barriers = 1});
    const bool adds = one.output != kType;
    ExpectWork({"Gemv"}, ProductWork(one.rows, kColumns, one.inner, adds ? 4 : 2, adds), 0.001);
  }
}

TEST_F(KernelCountsTest, AddNorm) {
  constexpr int32_t kHidden = 4096, kRows = 4;
  const OnDevice<float> residual(kHidden * kRows, 1.0f);
  const OnDevice<uint16_t> delta(kHidden * kRows, 0);
  const OnDevice<float> weight(kHidden, 1.0f);
  const OnDevice<uint16_t> output(kHidden * kRows, 0);
  for (const model::Norm norm : {model::Norm::kRms, model::Norm::kLayer}) {
    ASSERT_DONE(cuda::AddNorm({.norm = norm,
                               .residual = residual.data(),
                               .delta = delta.data(),
                               .delta_type = kType,
                               .weight = weight.data(),
                               .epsilon = 1e-5f,
                               .output = output.data(),
                               .rows = kRows,
                               .hidden = kHidden},
                              stream_));
    Expect("AddNorm", norm == model::Norm::kRms ? "RMS, 4096" : "layer, 4096",
           {.barriers = norm == model::Norm::kRms ? 1.0 : 2.0});
  }
  ASSERT_DONE(cuda::AddNorm(
      {.residual = residual.data(), .weight = weight.data(), .output = output.data(), .rows = kRows, .hidden = kHidden},
      stream_));
  ExpectWork({"AddNorm"}, NormWork(kRows, kHidden), 0);
}

TEST_F(KernelCountsTest, RopeAndCache) {
  struct Case {
    int32_t heads;
    int32_t kv_heads;
    int32_t head_dim;
  };
  for (const Case& one : {Case{32, 32, 128}, Case{64, 8, 128}, Case{32, 4, 64}}) {
    constexpr int32_t kTokens = 16;
    const OnDevice<float> frequencies(static_cast<size_t>(one.head_dim / 2), 0.5f);
    const OnDevice<int32_t> positions(kTokens, 7);
    const OnDevice<float> angles(static_cast<size_t>(kTokens * one.head_dim), 0);
    ASSERT_DONE(RopeAngles({.frequencies = frequencies.data(),
                            .positions = positions.data(),
                            .tokens = kTokens,
                            .head_dim = one.head_dim,
                            .angles = angles.data()},
                           stream_));
    const int64_t stride = (one.heads + 2 * one.kv_heads) * one.head_dim;
    PagedKv kv{nullptr, kType, one.kv_heads, one.head_dim};
    const OnDevice<uint16_t> pool(static_cast<size_t>(kv.block_stride()), 0);
    kv.layer = pool.data();
    const OnDevice<uint16_t> qkv(static_cast<size_t>(kTokens * stride), 0);
    std::vector<int32_t> places(kTokens);
    std::iota(places.begin(), places.end(), 0);
    const OnDevice<int32_t> slots(places);
    const std::string shape = absl::StrFormat("%d:%d heads of %d", one.heads, one.kv_heads, one.head_dim);
    Expect("RopeAngles", shape, {});
    const OnDevice<float> norms(static_cast<size_t>(2 * one.head_dim), 1);
    for (const bool normed : {false, true}) {
      ASSERT_DONE(CacheKv({.qkv = qkv.data(),
                           .qkv_stride = stride,
                           .tokens = kTokens,
                           .heads = one.heads,
                           .angles = angles.data(),
                           .query_norm = normed ? norms.data() : nullptr,
                           .key_norm = normed ? norms.data() + one.head_dim : nullptr,
                           .norm_epsilon = 1e-6f,
                           .slots = slots.data(),
                           .kv = kv},
                          stream_));
      Expect("CacheKv", normed ? shape + ", normed" : shape, {});
      ExpectWork({"CacheKv"}, CacheKvWork(kTokens, one.heads, one.kv_heads, one.head_dim), 0.01);
    }
  }
}

TEST_F(KernelCountsTest, PrefillAttention) {
  Prefill(2, 2, 128, 160);
  Expect("PrefillAttention", "1:1 heads of 128", {.barriers = 4});
  Prefill(8, 1, 128, 40);
  Expect("PrefillAttention", "8:1 heads of 128", {.barriers = 2});
  Prefill(2, 2, 64, 160);
  Expect("PrefillAttention", "1:1 heads of 64", {.barriers = 4});
  Prefill(1, 1, 256, 80);
  Expect("PrefillAttention", "1:1 heads of 256", {.barriers = 8});
}

TEST_F(KernelCountsTest, DecodeAttention) {
  struct Case {
    int32_t heads;
    int32_t kv_heads;
    int32_t head_dim;
  };
  for (const Case& one : {Case{4, 4, 128}, Case{16, 2, 128}, Case{4, 4, 64}, Case{2, 2, 256}}) {
    Decode(one.heads, one.kv_heads, one.head_dim, {600, 70}, 4096);
    const std::string shape = absl::StrFormat("%d:1 heads of %d", one.heads / one.kv_heads, one.head_dim);
    Expect("DecodeAttention", shape, {.barriers = 1});
    Expect("DecodeCombine", shape, {});
    Decode(one.heads, one.kv_heads, one.head_dim, {608, 608}, 4096);
    ExpectWork({"DecodeAttention", "DecodeCombine"},
               DecodeAttentionWork(2, 608, one.heads, one.kv_heads, one.head_dim, 4096), 0.01);
  }
}

TEST_F(KernelCountsTest, Activation) {
  constexpr int64_t kInner = 11008, kRows = 2;
  const OnDevice<uint16_t> input(2 * kInner * kRows, 0);
  const OnDevice<uint16_t> output(kInner * kRows, 0);
  ASSERT_DONE(Activate({.input = input.data(), .output = output.data(), .rows = kRows, .inner = kInner}, stream_));
  Expect("Activate", "SiLU, gated, 11008", {});
  ExpectWork({"Activate"}, ActivateWork(kRows, kInner), 0);
  const OnDevice<float> bias(4096, 0.0f);
  const OnDevice<uint16_t> values(2 * 4096, 0);
  ASSERT_DONE(
      AddBias({.values = values.data(), .stride = 4096, .bias = bias.data(), .rows = 2, .columns = 4096}, stream_));
  Expect("AddBias", "4096", {});
}

TEST_F(KernelCountsTest, RowsByIndex) {
  constexpr int32_t kHidden = 4096;
  const OnDevice<int32_t> tokens(std::vector<int32_t>{3, 0, 7});
  const OnDevice<uint16_t> table(8 * kHidden, 0);
  const OnDevice<float> residual(3 * kHidden, 0.0f);
  ASSERT_DONE(Embed({.tokens = tokens.data(),
                     .count = 3,
                     .table = table.data(),
                     .rows = 8,
                     .hidden = kHidden,
                     .residual = residual.data()},
                    stream_));
  Expect("Embed", "4096", {});
  const OnDevice<uint16_t> output(3 * kHidden, 0);
  ASSERT_DONE(GatherRows(
      {.input = table.data(), .row_index = tokens.data(), .output = output.data(), .rows = 3, .columns = kHidden},
      stream_));
  Expect("GatherRows", "4096", {});
}

TEST_F(KernelCountsTest, BestTokens) {
  constexpr int32_t kColumns = 32000;
  const OnDevice<float> logits(Noise(3, kColumns, model::DType::kBFloat16));
  const OnDevice<uint8_t> workspace(static_cast<size_t>(BestTokensWorkspaceBytes(1, kColumns)), 0);
  const OnDevice<RowReport> report(1, RowReport());
  for (const int32_t wanted : {1, 40}) {
    const OnDevice<int32_t> best(1, wanted);
    const OnDevice<float> temperature(1, wanted == 1 ? 0.0f : 0.7f);
    ASSERT_DONE(PickBestTokens({.logits = logits.data(),
                                .stride = kColumns,
                                .rows = 1,
                                .columns = kColumns,
                                .best = best.data(),
                                .temperature = temperature.data(),
                                .reports = report.data(),
                                .workspace = workspace.data()},
                               stream_));
    const std::string shape = absl::StrCat(wanted, " of 32000");
    Expect("BestTokensPick", shape, {});
    // One warp gathers what lies in lists of 544 bytes; there are as many as thousands of columns.
    Expect("BestTokensMerge", shape, {.reading = 0.25});
    if (wanted == 1) ExpectWork({"BestTokensPick"}, BestTokensWork(1, kColumns), 0.3);
  }
}

TEST_F(KernelCountsTest, Encoders) {
  constexpr int32_t kSide = 56, kPatch = 14;
  const OnDevice<uint8_t> pixels(kSide * kSide * 3, 0);
  const OnDevice<float> colours(3 * 256, 0.0f);
  const OnDevice<uint16_t> patches((1 + 16) * 3 * kPatch * kPatch, 0);
  ASSERT_DONE(CutPatches({.pixels = pixels.data(),
                          .images = 1,
                          .side = kSide,
                          .patch = kPatch,
                          .colours = colours.data(),
                          .output = patches.data()},
                         stream_));
  // A channel's bytes are every third; the cache has the others for the next rows.
  Expect("CutPatches", "14 x 14", {.reading = 0.28});
  constexpr int32_t kHidden = 768;
  const OnDevice<float> states(5 * kHidden, 1.0f);
  const OnDevice<int32_t> begin(std::vector<int32_t>{0, 2, 5});
  const OnDevice<float> output(2 * kHidden, 0.0f);
  PoolArgs pool;
  pool.states = states.data();
  pool.token_begin = begin.data();
  pool.output = output.data();
  pool.texts = 2;
  pool.hidden = kHidden;
  pool.pooling = model::Pooling::kMean;
  pool.normalize = true;
  ASSERT_DONE(Pool(pool, stream_));
  Expect("Pool", "mean, 768", {.barriers = 1});
}

// The step as a whole: its products are the weights, once, and its caches the tokens.
TEST(KernelWorkTest, ADecodeStepReadsWeightsAndCacheOnce) {
  model::DecoderConfig config;
  config.layers = 32;
  config.hidden = 4096;
  config.heads = config.kv_heads = 32;
  config.head_dim = 128;
  config.intermediate = 11008;
  config.vocab = 32000;
  config.max_positions = 4096;
  int64_t products = 0;
  int64_t attention = 0;
  int64_t all = 0;
  for (const KernelWork& work : DecodeStepWork(config, 8, 1024)) {
    if (work.name.starts_with("product")) products += work.launches * work.read;
    if (work.name == "DecodeAttention") attention += work.launches * work.read;
    all += work.launches * work.bytes();
  }
  constexpr double kWeights = 2.0 * (32 * (4 * 4096.0 * 4096 + 3 * 4096.0 * 11008) + 32000 * 4096.0);
  constexpr double kCache = 2.0 * 2 * 32 * 4096 * 1024 * 8;
  EXPECT_NEAR(static_cast<double>(products), kWeights, 0.01 * kWeights);
  EXPECT_NEAR(static_cast<double>(attention), kCache, 0.01 * kCache);
  EXPECT_NEAR(static_cast<double>(all), kWeights + kCache, 0.01 * kWeights);
}

TEST(KernelWorkTest, MemoryOrArithmeticBoundsAKernel) {
  const KernelWork few = ProductWork(1, 4096, 4096, 2, false);
  EXPECT_DOUBLE_EQ(BoundOf(few, 1e12, 1e14), static_cast<double>(few.bytes()) * 1e-12);
  const KernelWork many = ProductWork(4096, 4096, 4096, 2, false);
  EXPECT_DOUBLE_EQ(BoundOf(many, 1e12, 1e14), static_cast<double>(many.operations) * 1e-14);
}

}  // namespace
}  // namespace tandem::worker::cuda
