// Sequences in a paged cache with random keys, values and block tables, and attention over them in double.
#ifndef TANDEM_WORKER_CUDA_OPS_ATTENTION_CASE_FOR_TEST_H_
#define TANDEM_WORKER_CUDA_OPS_ATTENTION_CASE_FOR_TEST_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "worker/cuda/ops/device_for_test.h"
#include "worker/cuda/ops/paged_kv.h"

namespace tandem::worker::cuda {

struct AttentionCase {
  // `contexts[s]` tokens are in the cache for sequence s. Blocks lie in any order, and what is in them beyond a
  // sequence's tokens is no number.
  AttentionCase(uint32_t seed, model::DType stored, int32_t query_heads, int32_t kv_heads, int32_t head_dim,
                std::vector<int32_t> lengths)
      : type(stored), heads(query_heads), contexts(std::move(lengths)), kv{nullptr, stored, kv_heads, head_dim} {
    int32_t blocks = 0;
    for (const int32_t context : contexts) {
      table_stride = std::max<int64_t>(table_stride, (context + 15) / 16);
      blocks += (context + 15) / 16;
    }
    std::vector<int32_t> order(static_cast<size_t>(blocks) + 1);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(seed);
    std::shuffle(order.begin(), order.end(), random);
    tables.assign(static_cast<size_t>(table_stride) * contexts.size(), -1);  // Not to be read beyond the context.
    size_t next = 0;
    for (size_t s = 0; s < contexts.size(); ++s) {
      for (int32_t b = 0; b < (contexts[s] + 15) / 16; ++b) {
        tables[s * static_cast<size_t>(table_stride) + static_cast<size_t>(b)] = order[next++];
      }
    }
    pool = Noise(seed + 1, order.size() * static_cast<size_t>(kv.block_stride()), type);
    for (size_t i = 0; i < pool.size(); ++i) {
      if (static_cast<int32_t>(i % static_cast<size_t>(kv.padded())) >= head_dim) pool[i] = 0;
    }
    std::vector<uint16_t> bits = BitsOf(pool, type);
    for (size_t i = 0; i < bits.size(); ++i) {
      if (!Taken(static_cast<int64_t>(i))) bits[i] = 0x7fff;
    }
    pool_bits = std::make_unique<OnDevice<uint16_t>>(bits);
    device_tables = std::make_unique<OnDevice<int32_t>>(tables);
    device_contexts = std::make_unique<OnDevice<int32_t>>(contexts);
    kv.layer = pool_bits->data();
    scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  }

  // Whether element i of the pool is a part of a token of some sequence.
  bool Taken(int64_t i) const {
    const int32_t block = static_cast<int32_t>(i / kv.block_stride());
    const int32_t place = static_cast<int32_t>(i / kv.padded() % kKvBlockTokens);
    for (size_t s = 0; s < contexts.size(); ++s) {
      for (int64_t b = 0; b < (contexts[s] + 15) / 16; ++b) {
        if (tables[s * static_cast<size_t>(table_stride) + static_cast<size_t>(b)] == block) {
          return b * kKvBlockTokens + place < contexts[s];
        }
      }
    }
    return false;
  }

  float Cached(size_t sequence, int32_t token, int32_t kv_head, bool value, int32_t i) const {
    const int64_t block = tables[sequence * static_cast<size_t>(table_stride) + static_cast<size_t>(token / 16)];
    const int64_t place =
        block * kv.block_stride() + kv_head * kv.head_stride() + ((value ? 16 : 0) + token % 16) * kv.padded() + i;
    return pool[static_cast<size_t>(place)];
  }

  // What the query of `head` gets that sees the positions up to `position`.
  std::vector<double> Attend(size_t sequence, int32_t position, int32_t head, const float* query,
                             int32_t window) const {
    const int32_t kv_head = head / (heads / kv.kv_heads);
    const int32_t first = window > 0 ? std::max(0, position - window + 1) : 0;
    std::vector<double> scores;
    double most = -INFINITY;
    for (int32_t token = first; token <= position; ++token) {
      double score = 0;
      for (int32_t i = 0; i < kv.head_dim; ++i) score += double{query[i]} * Cached(sequence, token, kv_head, false, i);
      scores.push_back(score * scale);
      most = std::max(most, scores.back());
    }
    double total = 0;
    for (double& score : scores) total += score = std::exp(score - most);
    std::vector<double> output(static_cast<size_t>(kv.head_dim), 0.0);
    for (int32_t token = first; token <= position; ++token) {
      for (int32_t i = 0; i < kv.head_dim; ++i) {
        output[static_cast<size_t>(i)] +=
            scores[static_cast<size_t>(token - first)] / total * Cached(sequence, token, kv_head, true, i);
      }
    }
    return output;
  }

  // Weights are rounded to the stored type before they meet values below one, and the result once more.
  double Slack(double wanted) const { return 1.2 * RoundingOf(type) * (0.5 + std::fabs(wanted)); }

  const model::DType type;
  const int32_t heads;
  const std::vector<int32_t> contexts;
  PagedKv kv;
  float scale = 0;
  int64_t table_stride = 0;
  std::vector<int32_t> tables;
  std::vector<float> pool;
  std::unique_ptr<OnDevice<uint16_t>> pool_bits;
  std::unique_ptr<OnDevice<int32_t>> device_tables;
  std::unique_ptr<OnDevice<int32_t>> device_contexts;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_ATTENTION_CASE_FOR_TEST_H_
