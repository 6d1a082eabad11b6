#include "worker/exec/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/model/encoder_memory.h"

namespace tandem::worker {

Encoder::Encoder(const model::EncoderConfig& config, Limits limits, EncoderWeights weights, MemoryArena arena,
                 const CpuKernels* kernels, int threads)
    : config_(config),
      weights_(std::move(weights)),
      math_(kernels, threads, config.max_tokens),
      arena_(std::move(arena)) {
  const model::EncoderArena sizes = model::SizeEncoderArena(config_, limits.max_batch_tokens, limits.max_sequences);
  hidden_ = arena_.TakeFloats(sizes.hidden);
  normed_ = arena_.TakeFloats(sizes.normed);
  scratch_ = arena_.TakeFloats(sizes.scratch);
  attended_ = scratch_ + int64_t{3} * limits.max_batch_tokens * config_.hidden;
  tiles_ = arena_.TakeFloats(sizes.tiles);
  output_ = arena_.TakeFloats(sizes.output);
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
  math_.AddAndNorm(norm, config_.norm_epsilon, hidden_, add ? normed_ : nullptr, tokens_, config_.hidden, hidden_);
}

void Encoder::Attend(const LayerWeights& layer, const StepInput& step) {
  const int64_t hidden = config_.hidden;
  math_.Matmul(layer.qkv, hidden_, tokens_, scratch_, /*spare=*/normed_);
  int64_t first_row = 0;
  for (const SequenceInput& sequence : step.sequences) {
    const int64_t count = static_cast<int64_t>(sequence.tokens.size());
    math_.Attend({.qkv = scratch_ + first_row * 3 * hidden,
                  .output = attended_ + first_row * hidden,
                  .tokens = count,
                  .heads = config_.heads,
                  .head_dim = config_.head_dim,
                  .tiles = tiles_});
    first_row += count;
  }
  math_.Matmul(layer.attention_out, attended_, tokens_, normed_);
}

void Encoder::Mlp(const LayerWeights& layer) {
  const CpuKernels& kernels = math_.kernels();
  const auto activation = config_.activation == model::EncoderActivation::kGelu       ? kernels.gelu
                          : config_.activation == model::EncoderActivation::kGeluTanh ? kernels.gelu_tanh
                                                                                      : kernels.relu;
  math_.Matmul(layer.mlp_in, hidden_, tokens_, scratch_, /*spare=*/normed_);
  math_.Activate(activation, scratch_, tokens_, config_.intermediate);
  math_.Matmul(layer.mlp_out, scratch_, tokens_, normed_);
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
  if (config_.normalize) NormalizeVector(out, hidden);
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
  math_.Matmul(weights_.head_dense, normed_, rows, scratch_);
  for (int64_t i = 0; i < rows * hidden; ++i) scratch_[i] = std::tanh(scratch_[i]);
  math_.Matmul(weights_.head_out, scratch_, rows, output_);
  if (!config_.sigmoid) return;
  for (int64_t i = 0; i < rows * config_.labels; ++i) output_[i] = 1.0f / (1.0f + std::exp(-output_[i]));
}

}  // namespace tandem::worker
