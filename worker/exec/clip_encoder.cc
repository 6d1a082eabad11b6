#include "worker/exec/clip_encoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/model/clip_memory.h"

namespace tandem::worker {

ClipEncoder::ClipEncoder(const model::ClipConfig& config, Limits limits, ClipWeights weights, MemoryArena arena,
                         const CpuKernels* kernels, int threads)
    : config_(config),
      weights_(std::move(weights)),
      colours_(config.preparation.Colours()),
      math_(kernels, threads, config.max_tokens()),
      arena_(std::move(arena)) {
  const model::ClipArena sizes = model::SizeClipArena(config_, limits.max_batch_tokens, limits.max_sequences);
  hidden_ = arena_.TakeFloats(sizes.hidden);
  normed_ = arena_.TakeFloats(sizes.normed);
  scratch_ = arena_.TakeFloats(sizes.scratch);
  tiles_ = arena_.TakeFloats(sizes.tiles);
  output_ = arena_.TakeFloats(sizes.output);
  items_.reserve(static_cast<size_t>(limits.max_sequences));
}

absl::Span<const float> ClipEncoder::Run(const StepInput& step, std::atomic<uint64_t>* progress) {
  for (const bool images : {false, true}) {
    items_.clear();
    rows_ = 0;
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      const SequenceInput& input = step.sequences[i];
      if (input.image.empty() == images) continue;
      const int64_t rows = static_cast<int64_t>(input.tokens.size());
      items_.push_back({.input = &input,
                        .index = i,
                        .first_row = rows_,
                        .rows = rows,
                        .pooled_row = rows_ + (images ? 0 : config_.EndOf(input.tokens))});
      rows_ += rows;
    }
    if (items_.empty()) continue;
    const model::ClipTower& tower = images ? config_.image : config_.text;
    const ClipTowerWeights& weights = images ? weights_.image : weights_.text;
    images ? EmbedImages() : EmbedTexts();
    RunLayers(tower, weights, images, progress);
    Project(tower, weights);
  }
  return {output_, step.sequences.size() * static_cast<size_t>(config_.vector)};
}

void ClipEncoder::EmbedTexts() {
  const int64_t hidden = config_.text.hidden;
  for (const Item& item : items_) {
    float* row = hidden_ + item.first_row * hidden;
    for (int64_t i = 0; i < item.rows; ++i, row += hidden) {
      const float* const word = weights_.words + int64_t{item.input->tokens[static_cast<size_t>(i)]} * hidden;
      const float* const position = weights_.text.positions + i * hidden;
      for (int64_t h = 0; h < hidden; ++h) row[h] = word[h] + position[h];
    }
  }
}

void ClipEncoder::CutPatches(absl::Span<const uint8_t> image, float* rows) const {
  const int64_t patch = config_.patch;
  const int64_t side = config_.side;
  float* to = rows;
  for (int64_t top = 0; top < side; top += patch) {
    for (int64_t left = 0; left < side; left += patch) {
      for (size_t channel = 0; channel < 3; ++channel) {
        for (int64_t y = top; y < top + patch; ++y) {
          const uint8_t* from = image.data() + (y * side + left) * 3 + channel;
          for (int64_t x = 0; x < patch; ++x, from += 3) *to++ = colours_[channel][*from];
        }
      }
    }
  }
}

void ClipEncoder::EmbedImages() {
  const int64_t hidden = config_.image.hidden;
  const int64_t patches = config_.image_tokens() - 1;
  int64_t cut = 0;
  for (const Item& item : items_) {
    CutPatches(item.input->image, scratch_ + cut * config_.patch_values());
    cut += patches;
  }
  math_.Matmul(weights_.patches, scratch_, cut, normed_);
  const float* from = normed_;
  for (const Item& item : items_) {
    float* row = hidden_ + item.first_row * hidden;
    for (int64_t i = 0; i < item.rows; ++i, row += hidden) {
      const float* const position = weights_.image.positions + i * hidden;
      const float* const what = i == 0 ? weights_.class_token : from;
      for (int64_t h = 0; h < hidden; ++h) row[h] = what[h] + position[h];
      if (i > 0) from += hidden;
    }
  }
  math_.AddAndNorm(weights_.first_norm, config_.image.norm_epsilon, hidden_, nullptr, rows_, hidden, hidden_);
}

void ClipEncoder::RunLayers(const model::ClipTower& tower, const ClipTowerWeights& weights, bool both_ways,
                            std::atomic<uint64_t>* progress) {
  const int64_t hidden = tower.hidden;
  float* const attended = scratch_ + 3 * rows_ * hidden;
  const CpuKernels& kernels = math_.kernels();
  const auto activation = tower.activation == model::ClipActivation::kQuickGelu  ? kernels.quick_gelu
                          : tower.activation == model::ClipActivation::kGeluTanh ? kernels.gelu_tanh
                                                                                 : kernels.gelu;
  const float* block = nullptr;  // what the block before gave, not yet added
  for (const LayerWeights& layer : weights.layers) {
    math_.AddAndNorm(layer.attention_norm, tower.norm_epsilon, hidden_, block, rows_, hidden, normed_);
    block = normed_;
    math_.Matmul(layer.qkv, normed_, rows_, scratch_);
    for (const Item& item : items_) {
      math_.Attend({.qkv = scratch_ + item.first_row * 3 * hidden,
                    .output = attended + item.first_row * hidden,
                    .tokens = item.rows,
                    .heads = tower.heads,
                    .head_dim = tower.head_dim,
                    .both_ways = both_ways,
                    .tiles = tiles_});
    }
    math_.Matmul(layer.attention_out, attended, rows_, normed_);
    math_.AddAndNorm(layer.mlp_norm, tower.norm_epsilon, hidden_, block, rows_, hidden, normed_);
    math_.Matmul(layer.mlp_in, normed_, rows_, scratch_);
    math_.Activate(activation, scratch_, rows_, tower.intermediate);
    math_.Matmul(layer.mlp_out, scratch_, rows_, normed_);
    progress->fetch_add(1, std::memory_order_relaxed);
  }
  math_.Add(hidden_, normed_, rows_ * hidden);
}

// The vectors of all items, each from the one row that stands for it.
void ClipEncoder::Project(const model::ClipTower& tower, const ClipTowerWeights& weights) {
  const int64_t hidden = tower.hidden;
  const int64_t count = static_cast<int64_t>(items_.size());
  const int64_t width = config_.vector;
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(normed_ + i * hidden, hidden_ + items_[static_cast<size_t>(i)].pooled_row * hidden,
                static_cast<size_t>(hidden) * sizeof(float));
  }
  math_.AddAndNorm(weights.last_norm, tower.norm_epsilon, normed_, nullptr, count, hidden, normed_);
  math_.Matmul(weights.projection, normed_, count, scratch_);
  for (int64_t i = 0; i < count; ++i) {
    float* const out = output_ + static_cast<int64_t>(items_[static_cast<size_t>(i)].index) * width;
    std::memcpy(out, scratch_ + i * width, static_cast<size_t>(width) * sizeof(float));
    if (config_.normalize) NormalizeVector(out, width);
  }
}

}  // namespace tandem::worker
