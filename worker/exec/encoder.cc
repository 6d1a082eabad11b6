#include "worker/exec/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/model/encoder_memory.h"
#include "base/model/model_memory.h"

namespace tandem::worker {
namespace {

constexpr int64_t kTile = kBlockTokens;

}  // namespace

Encoder::Encoder(const model::EncoderConfig& config, Limits limits, EncoderWeights weights, MemoryArena arena,
                 const CpuKernels* kernels, int threads)
    : config_(config), weights_(std::move(weights)), kernels_(*kernels), team_(threads), arena_(std::move(arena)) {
  const model::EncoderArena sizes = model::SizeEncoderArena(config_, limits.max_batch_tokens, limits.max_sequences);
  hidden_ = arena_.TakeFloats(sizes.hidden);
  normed_ = arena_.TakeFloats(sizes.normed);
  scratch_ = arena_.TakeFloats(sizes.scratch);
  attended_ = scratch_ + int64_t{3} * limits.max_batch_tokens * config_.hidden;
  tiles_ = arena_.TakeFloats(sizes.tiles);
  output_ = arena_.TakeFloats(sizes.output);
  tile_ids_.resize(static_cast<size_t>(model::RoundUp(config_.max_tokens, kTile) / kTile));
  std::iota(tile_ids_.begin(), tile_ids_.end(), 0);
}

absl::Span<const float> Encoder::Run(const StepInput& step, std::atomic<uint64_t>* progress) {
  tokens_ = 0;
  for (const SequenceInput& sequence : step.sequences) tokens_ += static_cast<int64_t>(sequence.tokens.size());
  Embed(step);
  AddAndNorm(weights_.embedding_norm, /*add=*/false);
  for (const LayerWeights& layer : weights_.layers) {
    Attend(layer, step);
    AddAndNorm(layer.attention_norm, /*add=*/true);
    Mlp(layer);
    AddAndNorm(layer.mlp_norm, /*add=*/true);
    progress->fetch_add(1, std::memory_order_relaxed);
  }
  if (config_.head == model::EncoderHead::kClassifier) {
    Classify(step);
  } else {
    const float* states = hidden_;
    float* out = output_;
    for (const SequenceInput& sequence : step.sequences) {
      const int64_t tokens = static_cast<int64_t>(sequence.tokens.size());
      Pool(states, tokens, out);
      states += tokens * config_.hidden;
      out += config_.hidden;
    }
  }
  return {output_, step.sequences.size() * static_cast<size_t>(config_.vector_size())};
}

void Encoder::Embed(const StepInput& step) {
  const int64_t hidden = config_.hidden;
  float* row = hidden_;
  for (const SequenceInput& sequence : step.sequences) {
    for (size_t i = 0; i < sequence.tokens.size(); ++i, row += hidden) {
      const bool second = sequence.second_text_at > 0 && static_cast<int64_t>(i) >= sequence.second_text_at;
      const float* word = weights_.words + sequence.tokens[i] * hidden;
      const float* position = weights_.positions + (config_.first_position + static_cast<int64_t>(i)) * hidden;
      const float* type = weights_.types + (second && config_.types > 1 ? hidden : 0);
      for (int64_t h = 0; h < hidden; ++h) row[h] = word[h] + type[h] + position[h];
    }
  }
}

void Encoder::AddAndNorm(const NormWeights& norm, bool add) {
  const int64_t hidden = config_.hidden;
  team_.Run(tokens_, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const x = hidden_ + row * hidden;
      if (add) {
        const float* const y = normed_ + row * hidden;
        for (int64_t h = 0; h < hidden; ++h) x[h] += y[h];
      }
      kernels_.layer_norm(NormArgs{x, x, hidden, norm.weight, norm.bias, static_cast<float>(config_.norm_epsilon)});
    }
  });
}

void Encoder::Matmul(const LinearWeights& linear, const float* input, int64_t rows, float* output) {
  const PackedMatrix& weight = linear.weight;
  const bool bf16 = weight.dtype == model::DType::kBFloat16;
  if (bf16 && kernels_.round_rows != nullptr) {
    // Rounds in place: the residual stream goes by way of `normed_`, all else is spent anyway.
    if (input == hidden_) {
      std::memcpy(normed_, hidden_, static_cast<size_t>(rows * weight.inner) * sizeof(float));
      input = normed_;
    }
    kernels_.round_rows(RoundRowsArgs{const_cast<float*>(input), weight.inner, rows, weight.inner});
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
void Encoder::FillTiles(const float* qkv, int64_t tokens) {
  const int64_t hidden = config_.hidden;
  const int64_t head_dim = config_.head_dim;
  const int64_t padded = model::RoundUp(head_dim, model::kKvLanes);
  const int64_t head_size = 2 * padded * kTile;
  team_.Run(config_.heads, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      for (int64_t tile = 0; tile * kTile < tokens; ++tile) {
        float* const keys = tiles_ + (tile * config_.heads + head) * head_size;
        float* const values = keys + padded * kTile;
        const int64_t count = std::min(kTile, tokens - tile * kTile);
        for (int64_t slot = 0; slot < kTile; ++slot) {
          const float* const from = qkv + (tile * kTile + slot) * 3 * hidden + hidden + head * head_dim;
          for (int64_t d = 0; d < head_dim; ++d) {
            keys[d * kTile + slot] = slot < count ? from[d] : 0.0f;
            values[slot * padded + d] = slot < count ? from[hidden + d] : 0.0f;
          }
        }
      }
    }
  });
}

void Encoder::Attend(const LayerWeights& layer, const StepInput& step) {
  const int64_t hidden = config_.hidden;
  const int64_t padded = model::RoundUp(config_.head_dim, model::kKvLanes);
  Matmul(layer.qkv, hidden_, tokens_, scratch_);
  int64_t first_row = 0;
  for (const SequenceInput& sequence : step.sequences) {
    const int64_t count = static_cast<int64_t>(sequence.tokens.size());
    FillTiles(scratch_ + first_row * 3 * hidden, count);
    team_.Run(config_.heads, [&](int64_t begin, int64_t end) {
      kernels_.attention(AttentionArgs{.queries = scratch_ + first_row * 3 * hidden,
                                       .query_stride = 3 * hidden,
                                       .output = attended_ + first_row * hidden,
                                       .output_stride = hidden,
                                       .tokens = count,
                                       .blocks = tile_ids_.data(),
                                       .pool = tiles_,
                                       .block_stride = config_.heads * 2 * padded * kTile,
                                       .kv_head_begin = begin,
                                       .kv_head_end = end,
                                       .group = 1,
                                       .head_dim = config_.head_dim,
                                       .both_ways = true,
                                       .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim))});
    });
    first_row += count;
  }
  Matmul(layer.attention_out, attended_, tokens_, normed_);
}

void Encoder::Mlp(const LayerWeights& layer) {
  const int64_t inner = config_.intermediate;
  Matmul(layer.mlp_in, hidden_, tokens_, scratch_);
  const auto activate = config_.activation == model::EncoderActivation::kGelu       ? kernels_.gelu
                        : config_.activation == model::EncoderActivation::kGeluTanh ? kernels_.gelu_tanh
                                                                                    : kernels_.relu;
  team_.Run(tokens_, [&](int64_t begin, int64_t end) {
    activate(ActivationArgs{scratch_ + begin * inner, nullptr, (end - begin) * inner});
  });
  Matmul(layer.mlp_out, scratch_, tokens_, normed_);
}

void Encoder::Pool(const float* states, int64_t tokens, float* out) const {
  const int64_t hidden = config_.hidden;
  switch (config_.pooling) {
    case model::Pooling::kFirst:
      std::copy(states, states + hidden, out);
      break;
    case model::Pooling::kLast:
      std::copy(states + (tokens - 1) * hidden, states + tokens * hidden, out);
      break;
    case model::Pooling::kMean:
    case model::Pooling::kMax:
      std::copy(states, states + hidden, out);
      for (int64_t t = 1; t < tokens; ++t) {
        const float* const row = states + t * hidden;
        for (int64_t h = 0; h < hidden; ++h) {
          out[h] = config_.pooling == model::Pooling::kMax ? std::max(out[h], row[h]) : out[h] + row[h];
        }
      }
      if (config_.pooling == model::Pooling::kMax) break;
      for (int64_t h = 0; h < hidden; ++h) out[h] /= static_cast<float>(tokens);
      break;
  }
  if (!config_.normalize) return;
  double square = 0;
  for (int64_t h = 0; h < hidden; ++h) square += static_cast<double>(out[h]) * out[h];
  const auto scale = static_cast<float>(1.0 / std::max(std::sqrt(square), 1e-12));
  for (int64_t h = 0; h < hidden; ++h) out[h] *= scale;
}

// From each text's first token: dense, tanh, and one number per label.
void Encoder::Classify(const StepInput& step) {
  const int64_t hidden = config_.hidden;
  const int64_t rows = static_cast<int64_t>(step.sequences.size());
  int64_t first_row = 0;
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(normed_ + i * hidden, hidden_ + first_row * hidden, static_cast<size_t>(hidden) * sizeof(float));
    first_row += static_cast<int64_t>(step.sequences[static_cast<size_t>(i)].tokens.size());
  }
  Matmul(weights_.head_dense, normed_, rows, scratch_);
  for (int64_t i = 0; i < rows * hidden; ++i) scratch_[i] = std::tanh(scratch_[i]);
  Matmul(weights_.head_out, scratch_, rows, output_);
  if (!config_.sigmoid) return;
  for (int64_t i = 0; i < rows * config_.labels; ++i) output_[i] = 1.0f / (1.0f + std::exp(-output_[i]));
}

}  // namespace tandem::worker
