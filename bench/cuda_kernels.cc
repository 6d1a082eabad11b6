#include "bench/cuda_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "bench/cuda_rates.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/ops/activation.h"
#include "worker/cuda/ops/decode_attention.h"
#include "worker/cuda/ops/kernel_work.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/rope.h"
#include "worker/cuda/ops/sampling.h"

namespace tandem::bench {
namespace {

using model::DType;
using namespace worker::cuda;  // NOLINT: this program is about it

// NVIDIA's figures: memory bandwidth, and dense products of bfloat16 with sums in float32.
struct Published {
  const char* device;
  DeviceRates rates;
};
constexpr Published kPublished[] = {
    {"RTX 3090", {936e9, 71e12}}, {"A100 80GB SXM", {2039e9, 312e12}}, {"H100 SXM", {3350e9, 989e12}}};

// The operands of one batch, and the launches over them.
class StepKernels {
 public:
  StepKernels(const model::DecoderConfig& config, int batch, int context, int64_t stretch, cudaStream_t stream)
      : config_(config), batch_(batch), stream_(stream) {
    const int64_t blocks = (context + kKvBlockTokens - 1) / kKvBlockTokens;
    tables_per_sequence_ = blocks;
    const int64_t width =
        std::max<int64_t>({2 * int64_t{config.intermediate},
                           int64_t{config.heads + 2 * config.kv_heads} * config.head_dim, int64_t{config.vocab}});
    const auto lay_out = [&](MemoryCursor cursor) {
      input_ = cursor.Take<uint16_t>(batch * width);
      output_ = cursor.Take<float>(batch * width);
      residual_ = cursor.Take<float>(int64_t{batch} * config.hidden);
      ones_ = cursor.Take<float>(config.hidden);
      angles_ = cursor.Take<float>(int64_t{batch} * config.head_dim);
      slots_ = cursor.Take<int32_t>(batch);
      contexts_ = cursor.Take<int32_t>(batch);
      best_ = cursor.Take<int32_t>(batch);
      temperature_ = cursor.Take<float>(batch);
      tables_ = cursor.Take<int32_t>(batch * blocks);
      reports_ = cursor.Take<RowReport>(batch);
      best_workspace_ = cursor.TakeBytes(BestTokensWorkspaceBytes(batch, config.vocab));
      attention_workspace_ = reinterpret_cast<float*>(
          cursor.TakeBytes(DecodeWorkspaceBytes(batch, config.heads, config.head_dim, config.max_positions)));
      matmul_workspace_ = cursor.TakeBytes(kMatmulWorkspaceBytes);
      return cursor.taken();
    };
    const int64_t bytes = lay_out(MemoryCursor::Counting());
    Keep(DeviceMemory::Allocate(bytes, "the kernels' operands"), &memory_);
    lay_out(MemoryCursor(memory_.data(), memory_.bytes()));
    FillWithNumbers(memory_, stream);
    Keep(DeviceMemory::Allocate(stretch, "the kernels' weights and caches"), &stretch_);
    FillWithNumbers(stretch_, stream);
    Put(slots_, std::vector<int32_t>(static_cast<size_t>(batch), 0));
    Put(contexts_, std::vector<int32_t>(static_cast<size_t>(batch), context));
    Check(cudaMemsetAsync(temperature_, 0, static_cast<size_t>(batch) * sizeof(float), stream));
    Put(best_, std::vector<int32_t>(static_cast<size_t>(batch), 1));
    std::vector<int32_t> tables(static_cast<size_t>(batch * blocks));
    for (size_t i = 0; i < tables.size(); ++i) tables[i] = static_cast<int32_t>(i);
    Put(tables_, tables);
    Keep(Matmul::Create(DType::kBFloat16, matmul_workspace_), &matmul_);
  }

  // The most that a kernel takes of the stretch.
  static int64_t StretchNeeded(const model::DecoderConfig& config, int batch, int context) {
    const int64_t blocks = (context + kKvBlockTokens - 1) / kKvBlockTokens;
    const int64_t cache =
        batch * blocks * PagedKv{nullptr, DType::kBFloat16, config.kv_heads, config.head_dim}.bytes_per_block();
    const int64_t columns = std::max<int64_t>(config.vocab, 2 * int64_t{config.intermediate});
    return std::max(cache, 2 * columns * config.hidden);
  }

  // Seconds of one launch of it.
  double Seconds(const KernelWork& work, int turns) {
    return DeviceSeconds(stream_,
                         [&] {
                           for (int turn = 0; turn < turns; ++turn) Check(Start(work.name, turn));
                         }) /
           turns;
  }

 private:
  template <class From, class To>
  static void Keep(From made, To* to) {
    Check(made.status());
    *to = *std::move(made);
  }
  void Put(int32_t* to, const std::vector<int32_t>& values) {
    Check(cudaMemcpyAsync(to, values.data(), values.size() * sizeof(int32_t), cudaMemcpyHostToDevice, stream_));
    Check(cudaStreamSynchronize(stream_));
  }
  // Another part of the stretch in each turn.
  uint8_t* Part(int turn, int64_t bytes) const {
    const int64_t whole = (bytes + kDeviceAlignment - 1) / kDeviceAlignment * kDeviceAlignment;
    const int64_t parts = std::max<int64_t>(1, stretch_.bytes() / whole);
    return stretch_.data() + turn % parts * whole;
  }

  absl::Status Product(int turn, int64_t columns, int64_t inner, bool floats, bool adds) {
    const DeviceLinear linear{.weight = {Part(turn, 2 * columns * inner), columns, inner}};
    return matmul_->Run({.input = input_,
                         .input_stride = inner,
                         .linear = &linear,
                         .output = adds ? static_cast<void*>(residual_) : output_,
                         .output_stride = columns,
                         .output_type = floats ? DType::kFloat32 : DType::kBFloat16,
                         .accumulate = adds,
                         .rows = batch_},
                        stream_);
  }

  absl::Status Start(const std::string& name, int turn) {
    const int64_t hidden = config_.hidden;
    const int64_t query_width = int64_t{config_.heads} * config_.head_dim;
    const int64_t qkv_width = query_width + 2 * int64_t{config_.kv_heads} * config_.head_dim;
    PagedKv kv{nullptr, DType::kBFloat16, config_.kv_heads, config_.head_dim};
    kv.layer = Part(turn, batch_ * tables_per_sequence_ * kv.bytes_per_block());
    if (name == "AddNorm") {
      return AddNorm({.residual = residual_,
                      .weight = ones_,
                      .epsilon = 1e-5f,
                      .output = output_,
                      .rows = batch_,
                      .hidden = config_.hidden},
                     stream_);
    }
    if (name == "CacheKv") {
      return CacheKv({.qkv = input_,
                      .qkv_stride = qkv_width,
                      .tokens = batch_,
                      .heads = config_.heads,
                      .angles = angles_,
                      .slots = slots_,
                      .kv = kv},
                     stream_);
    }
    if (name == "DecodeAttention") {
      return DecodeAttention({.queries = input_,
                              .query_stride = qkv_width,
                              .output = output_,
                              .output_stride = query_width,
                              .contexts = contexts_,
                              .block_tables = tables_,
                              .table_stride = tables_per_sequence_,
                              .sequences = batch_,
                              .max_context = config_.max_positions,
                              .heads = config_.heads,
                              .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                              .kv = kv,
                              .workspace = attention_workspace_},
                             stream_);
    }
    if (name == "Activate") {
      return Activate({.input = input_, .output = output_, .rows = batch_, .inner = config_.intermediate}, stream_);
    }
    if (name == "BestTokens") {
      return PickBestTokens({.logits = output_,
                             .stride = config_.vocab,
                             .rows = batch_,
                             .columns = config_.vocab,
                             .best = best_,
                             .temperature = temperature_,
                             .reports = reports_,
                             .workspace = best_workspace_},
                            stream_);
    }
    if (name == "product, qkv") return Product(turn, qkv_width, hidden, false, false);
    if (name == "product, attention out") return Product(turn, hidden, query_width, true, true);
    if (name == "product, mlp in") return Product(turn, 2 * int64_t{config_.intermediate}, hidden, false, false);
    if (name == "product, mlp out") return Product(turn, hidden, config_.intermediate, true, true);
    if (name == "product, logits") return Product(turn, config_.vocab, hidden, true, false);
    return absl::InternalError("no launch for " + name);
  }

  const model::DecoderConfig& config_;
  const int batch_;
  const cudaStream_t stream_;
  int64_t tables_per_sequence_ = 0;
  DeviceMemory memory_;
  DeviceMemory stretch_;
  std::unique_ptr<Matmul> matmul_;
  uint16_t* input_ = nullptr;
  float *output_ = nullptr, *residual_ = nullptr, *ones_ = nullptr, *angles_ = nullptr, *temperature_ = nullptr;
  int32_t *slots_ = nullptr, *contexts_ = nullptr, *best_ = nullptr, *tables_ = nullptr;
  RowReport* reports_ = nullptr;
  void* best_workspace_ = nullptr;
  float* attention_workspace_ = nullptr;
  void* matmul_workspace_ = nullptr;
};

}  // namespace

void MeasureKernels(const model::DecoderConfig& config, const DeviceRates& rates, const std::vector<int>& batches,
                    int context, bool tiny, cudaStream_t stream, nlohmann::json* result) {
  for (const int batch : batches) {
    const absl::StatusOr<DeviceMemoryInfo> now = ReadDeviceMemory();
    Check(now.status());
    const int64_t needed = StepKernels::StretchNeeded(config, batch, context);
    const int64_t stretch = std::max(needed, std::min(now->free / 2, tiny ? needed : int64_t{1} << 30));
    if (stretch > now->free / 4 * 3) {
      std::printf("kernels   batch %d: weights and caches do not fit\n", batch);
      continue;
    }
    StepKernels kernels(config, batch, context, stretch, stream);
    for (const KernelWork& work : DecodeStepWork(config, batch, context)) {
      const double bound = BoundOf(work, rates.copy, rates.product);
      const double seconds = kernels.Seconds(work, tiny ? 1 : 32);
      std::printf("kernels   batch %-4d %-24s x %-3lld %9.1f us, bound %9.1f us, measured / bound %.2f\n", batch,
                  work.name.c_str(), static_cast<long long>(work.launches), 1e6 * seconds, 1e6 * bound,
                  seconds / bound);
      (*result)["kernels"].push_back(
          {{"batch", batch}, {"kernel", work.name}, {"us", 1e6 * seconds}, {"bound_us", 1e6 * bound}});
    }
  }
}

void PrintPublishedBounds(const model::DecoderConfig& config, const std::vector<int>& batches, int context) {
  std::printf("A decode step after %d tokens each, microseconds at the least at published figures:\n\n", context);
  std::printf("| batch | kernel | MB | GFLOP |");
  for (const Published& one : kPublished) std::printf(" %s |", one.device);
  std::printf("\n|---|---|---|---|---|---|---|\n");
  for (const int batch : batches) {
    KernelWork all;
    double bounds[std::size(kPublished)] = {};
    const auto line = [&](const std::string& name, int64_t bytes, int64_t operations, const double* seconds) {
      std::printf("| %d | %s | %.1f | %.2f |", batch, name.c_str(), 1e-6 * static_cast<double>(bytes),
                  1e-9 * static_cast<double>(operations));
      for (size_t i = 0; i < std::size(kPublished); ++i) std::printf(" %.0f |", 1e6 * seconds[i]);
      std::printf("\n");
    };
    for (const KernelWork& work : DecodeStepWork(config, batch, context)) {
      double seconds[std::size(kPublished)];
      for (size_t i = 0; i < std::size(kPublished); ++i) {
        const DeviceRates& rates = kPublished[i].rates;
        seconds[i] = BoundOf(work, rates.copy, rates.product) * static_cast<double>(work.launches);
        bounds[i] += seconds[i];
      }
      all.read += work.bytes() * work.launches;
      all.operations += work.operations * work.launches;
      line(work.name, work.bytes() * work.launches, work.operations * work.launches, seconds);
    }
    line("**all**", all.read, all.operations, bounds);
  }
}

}  // namespace tandem::bench
