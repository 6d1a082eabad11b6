#include "worker/exec/encoder_math.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/model/model_memory.h"
#include "worker/exec/executor.h"

namespace tandem::worker {
namespace {

constexpr int64_t kTile = kBlockTokens;

// Floats of one head in one tile: keys [head_dim][16] and values [16][head_dim], both padded.
int64_t HeadFloats(int64_t head_dim) { return 2 * model::RoundUp(head_dim, model::kKvLanes) * kTile; }

}  // namespace

int64_t EncoderMath::TileFloats(int64_t tokens, int64_t heads, int64_t head_dim) {
  return model::RoundUp(tokens, kTile) / kTile * heads * HeadFloats(head_dim);
}

EncoderMath::EncoderMath(const CpuKernels* kernels, int threads, int64_t max_tokens)
    : kernels_(*kernels), team_(threads) {
  tile_ids_.resize(static_cast<size_t>(model::RoundUp(max_tokens, kTile) / kTile));
  std::iota(tile_ids_.begin(), tile_ids_.end(), 0);
}

void EncoderMath::Matmul(const LinearWeights& linear, float* input, int64_t rows, float* output, float* spare) {
  const PackedMatrix& weight = linear.weight;
  const bool bf16 = weight.dtype == model::DType::kBFloat16;
  if (bf16 && kernels_.round_rows != nullptr) {
    if (spare != nullptr) {
      std::memcpy(spare, input, static_cast<size_t>(rows * weight.inner) * sizeof(float));
      input = spare;
    }
    kernels_.round_rows(RoundRowsArgs{input, weight.inner, rows, weight.inner});
  }
  team_.Run(weight.panels(), [&](int64_t begin, int64_t end) {
    kernels_.matmul(MatmulArgs{.input = input,
                               .input_stride = weight.inner,
                               .rows = rows,
                               .panels = weight.data,
                               .bf16 = bf16,
                               .inner = weight.inner,
                               .columns = weight.columns,
                               .bias = linear.bias,
                               .output = output,
                               .output_stride = weight.columns,
                               .panel_begin = begin,
                               .panel_end = end});
  });
}

// Keys turned on their side, as the attention kernel wants them. What a last tile has beyond the text has no weight,
// but has to be finite.
void EncoderMath::FillTiles(const Attention& attention) {
  const int64_t head_dim = attention.head_dim;
  const int64_t hidden = attention.heads * head_dim;
  const int64_t padded = model::RoundUp(head_dim, model::kKvLanes);
  team_.Run(attention.heads, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      for (int64_t tile = 0; tile * kTile < attention.tokens; ++tile) {
        float* const keys = attention.tiles + (tile * attention.heads + head) * HeadFloats(head_dim);
        float* const values = keys + padded * kTile;
        const int64_t count = std::min(kTile, attention.tokens - tile * kTile);
        for (int64_t slot = 0; slot < kTile; ++slot) {
          const float* const from = attention.qkv + (tile * kTile + slot) * 3 * hidden + hidden + head * head_dim;
          for (int64_t d = 0; d < head_dim; ++d) {
            keys[d * kTile + slot] = slot < count ? from[d] : 0.0f;
            values[slot * padded + d] = slot < count ? from[hidden + d] : 0.0f;
          }
        }
      }
    }
  });
}

void EncoderMath::Attend(const Attention& attention) {
  const int64_t hidden = attention.heads * attention.head_dim;
  FillTiles(attention);
  team_.Run(attention.heads, [&](int64_t begin, int64_t end) {
    kernels_.attention(AttentionArgs{.queries = attention.qkv,
                                     .query_stride = 3 * hidden,
                                     .output = attention.output,
                                     .output_stride = hidden,
                                     .tokens = attention.tokens,
                                     .blocks = tile_ids_.data(),
                                     .pool = attention.tiles,
                                     .block_stride = attention.heads * HeadFloats(attention.head_dim),
                                     .kv_head_begin = begin,
                                     .kv_head_end = end,
                                     .group = 1,
                                     .head_dim = attention.head_dim,
                                     .both_ways = attention.both_ways,
                                     .scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim))});
  });
}

void EncoderMath::AddAndNorm(const NormWeights& norm, double epsilon, float* rows, const float* more, int64_t count,
                             int64_t hidden, float* output) {
  team_.Run(count, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const x = rows + row * hidden;
      if (more != nullptr) {
        const float* const y = more + row * hidden;
        for (int64_t h = 0; h < hidden; ++h) x[h] += y[h];
      }
      kernels_.layer_norm(
          NormArgs{x, output + row * hidden, hidden, norm.weight, norm.bias, static_cast<float>(epsilon)});
    }
  });
}

void EncoderMath::Add(float* rows, const float* more, int64_t count) {
  team_.Run(count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) rows[i] += more[i];
  });
}

void EncoderMath::Activate(Activation activation, float* rows, int64_t count, int64_t width) {
  team_.Run(count, [&](int64_t begin, int64_t end) {
    activation(ActivationArgs{rows + begin * width, nullptr, (end - begin) * width});
  });
}

void NormalizeVector(float* values, int64_t count) {
  double square = 0;
  for (int64_t i = 0; i < count; ++i) square += static_cast<double>(values[i]) * values[i];
  const auto scale = static_cast<float>(1.0 / std::max(std::sqrt(square), 1e-12));
  for (int64_t i = 0; i < count; ++i) values[i] *= scale;
}

}  // namespace tandem::worker
