#include "worker/cuda/ops/kernel_work.h"

#include <algorithm>
#include <utility>

#include "worker/cuda/ops/decode_attention.h"

namespace tandem::worker::cuda {
namespace {

constexpr int64_t kElement = 2;
constexpr int64_t kFloat = 4;

}  // namespace

KernelWork ProductWork(int64_t rows, int64_t columns, int64_t inner, int64_t output_bytes, bool adds) {
  const int64_t output = rows * columns * output_bytes;
  return {.name = "product",
          .read = (columns + rows) * inner * kElement + (adds ? output : 0),
          .written = output,
          .operations = 2 * rows * columns * inner};
}

KernelWork NormWork(int64_t rows, int64_t hidden) {
  return {.name = "AddNorm", .read = (rows + 1) * hidden * kFloat, .written = rows * hidden * kElement};
}

KernelWork CacheKvWork(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  const int64_t moved = rows * (heads + 2 * kv_heads) * head_dim * kElement;
  return {.name = "CacheKv", .read = moved + rows * head_dim * kFloat, .written = moved};
}

KernelWork DecodeAttentionWork(int64_t sequences, int64_t context, int64_t heads, int64_t kv_heads, int64_t head_dim,
                               int32_t max_context) {
  const int64_t padded = (head_dim + 15) / 16 * 16;
  const int64_t each = DecodePartitionTokens(max_context);
  const int64_t partitions = (context + each - 1) / each;
  const int64_t rows = sequences * heads;
  const int64_t partial = partitions > 1 ? rows * partitions * (head_dim + 2) * kFloat : 0;
  return {.name = "DecodeAttention",
          .read = sequences * context * 2 * kv_heads * padded * kElement + rows * head_dim * kElement + partial,
          .written = rows * head_dim * kElement + partial,
          .operations = 4 * rows * context * head_dim};
}

KernelWork ActivateWork(int64_t rows, int64_t inner) {
  return {.name = "Activate", .read = 2 * rows * inner * kElement, .written = rows * inner * kElement};
}

KernelWork BestTokensWork(int64_t rows, int64_t columns) {
  return {.name = "BestTokens", .read = rows * columns * kFloat};
}

std::vector<KernelWork> DecodeStepWork(const model::DecoderConfig& config, int64_t batch, int64_t context) {
  const int64_t width = int64_t{config.heads} * config.head_dim;
  const int64_t kv_width = int64_t{config.kv_heads} * config.head_dim;
  std::vector<KernelWork> step;
  const auto add = [&](KernelWork work, int64_t launches, const char* name = nullptr) {
    work.launches = launches;
    if (name != nullptr) work.name = name;
    step.push_back(std::move(work));
  };
  add(NormWork(batch, config.hidden), 2 * config.layers + 1);
  add(ProductWork(batch, width + 2 * kv_width, config.hidden, kElement, false), config.layers, "product, qkv");
  add(CacheKvWork(batch, config.heads, config.kv_heads, config.head_dim), config.layers);
  add(DecodeAttentionWork(batch, context, config.heads, config.kv_heads, config.head_dim, config.max_positions),
      config.layers);
  add(ProductWork(batch, config.hidden, width, kFloat, true), config.layers, "product, attention out");
  add(ProductWork(batch, 2 * int64_t{config.intermediate}, config.hidden, kElement, false), config.layers,
      "product, mlp in");
  add(ActivateWork(batch, config.intermediate), config.layers);
  add(ProductWork(batch, config.hidden, config.intermediate, kFloat, true), config.layers, "product, mlp out");
  add(ProductWork(batch, config.vocab, config.hidden, kFloat, false), 1, "product, logits");
  add(BestTokensWork(batch, config.vocab), 1);
  return step;
}

double BoundOf(const KernelWork& work, double bytes_per_second, double operations_per_second) {
  return std::max(static_cast<double>(work.bytes()) / bytes_per_second,
                  static_cast<double>(work.operations) / operations_per_second);
}

}  // namespace tandem::worker::cuda
