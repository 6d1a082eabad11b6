#include "worker/exec/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace tandem::worker {

Decoder::Decoder(const model::DecoderConfig& config, const model::RankShape& shape, Limits limits,
                 DecoderWeights weights, MemoryArena arena, const CpuKernels* kernels, int threads,
                 Communicator* communicator)
    : config_(config),
      shape_(shape),
      weights_(std::move(weights)),
      kernels_(*kernels),
      communicator_(*communicator),
      rope_(config.rope, config.head_dim),
      team_(threads),
      arena_(std::move(arena)) {
  const model::ArenaSizes sizes =
      model::SizeArena(config_, shape_, limits.max_batch_tokens, limits.max_sequences, communicator_.rank() == 0);
  residual_ = arena_.TakeFloats(sizes.residual);
  normed_ = arena_.TakeFloats(sizes.normed);
  scratch_ = arena_.TakeFloats(sizes.scratch);
  const int64_t qkv_width = int64_t{shape_.heads + 2 * shape_.kv_heads} * config_.head_dim;
  attended_ = scratch_ + limits.max_batch_tokens * qkv_width;
  rotation_ = arena_.TakeFloats(sizes.rotation);
  local_logits_ = arena_.TakeFloats(sizes.local_logits);
  gathered_logits_ = arena_.TakeFloats(sizes.gathered_logits);
  logits_ = arena_.TakeFloats(sizes.logits);
}

absl::StatusOr<absl::Span<const float>> Decoder::Run(const StepInput& step, KvPool* kv,
                                                     std::atomic<uint64_t>* progress) {
  tokens_ = 0;
  for (const SequenceInput& sequence : step.sequences) tokens_ += static_cast<int64_t>(sequence.tokens.size());
  if (absl::Status embedded = Embed(step); !embedded.ok()) return embedded;
  for (int32_t i = 0; i < config_.layers; ++i) {
    const LayerWeights& layer = weights_.layers[static_cast<size_t>(i)];
    if (absl::Status done = AttentionBlock(layer, i, step, kv); !done.ok()) return done;
    if (absl::Status done = MlpBlock(layer); !done.ok()) return done;
    progress->fetch_add(1, std::memory_order_relaxed);
  }
  return Logits(step);
}

absl::Status Decoder::Embed(const StepInput& step) {
  const int64_t hidden = config_.hidden;
  const int64_t first_token = int64_t{communicator_.rank()} * shape_.vocab;
  float* row = residual_;
  for (const SequenceInput& sequence : step.sequences) {
    for (const TokenId token : sequence.tokens) {
      const int64_t column = token - first_token;
      if (column >= 0 && column < shape_.vocab) {
        UnpackColumn(weights_.embedding, column, row);
      } else {
        std::fill(row, row + hidden, 0.0f);  // Another rank has it.
      }
      row += hidden;
    }
  }
  if (absl::Status summed =
          communicator_.AllReduceSum(absl::MakeSpan(residual_, static_cast<size_t>(tokens_ * hidden)));
      !summed.ok()) {
    return summed;
  }
  int64_t index = 0;
  for (const SequenceInput& sequence : step.sequences) {
    for (int64_t i = 0; i < static_cast<int64_t>(sequence.tokens.size()); ++i, ++index) {
      const int64_t position = sequence.start + i;
      if (config_.position == model::Position::kRotary) {
        rope_.Angles(position, rotation_ + index * config_.head_dim);
      } else {
        for (int64_t h = 0; h < hidden; ++h) residual_[index * hidden + h] += weights_.positions[position * hidden + h];
      }
    }
  }
  return absl::OkStatus();
}

void Decoder::Norm(const NormWeights& norm, const float* input, float* output, int64_t rows) {
  const auto kernel = config_.norm == model::Norm::kRms ? kernels_.rms_norm : kernels_.layer_norm;
  const int64_t hidden = config_.hidden;
  team_.Run(rows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernel(NormArgs{input + row * hidden, output + row * hidden, hidden, norm.weight, norm.bias,
                      static_cast<float>(config_.norm_epsilon)});
    }
  });
}

void Decoder::NormHeads(const float* weight, int64_t heads, float* row) {
  const int64_t head_dim = config_.head_dim;
  for (int64_t head = 0; head < heads; ++head, row += head_dim) {
    kernels_.rms_norm(NormArgs{row, row, head_dim, weight, nullptr, static_cast<float>(config_.norm_epsilon)});
  }
}

void Decoder::Matmul(const LinearWeights& linear, float* input, int64_t input_stride, int64_t rows, float* output,
                     int64_t output_stride) {
  const PackedMatrix& weight = linear.weight;
  // An output layer may be wider than its output: pad columns of the vocabulary are not computed.
  const int64_t columns = std::min(weight.columns, output_stride);
  const int64_t panels = model::RoundUp(columns, model::kPanelColumns) / model::kPanelColumns;
  const bool bf16 = weight.dtype == model::DType::kBFloat16;
  if (bf16 && kernels_.round_rows != nullptr) {
    kernels_.round_rows(RoundRowsArgs{input, input_stride, rows, weight.inner});
  }
  team_.Run(panels, [&](int64_t begin, int64_t end) {
    kernels_.matmul(MatmulArgs{.input = input,
                               .input_stride = input_stride,
                               .rows = rows,
                               .panels = weight.data,
                               .bf16 = bf16,
                               .inner = weight.inner,
                               .columns = columns,
                               .bias = linear.bias,
                               .output = output,
                               .output_stride = output_stride,
                               .panel_begin = begin,
                               .panel_end = end});
  });
}

absl::Status Decoder::AttentionBlock(const LayerWeights& layer, int32_t index, const StepInput& step, KvPool* kv) {
  const int64_t hidden = config_.hidden;
  const int64_t head_dim = config_.head_dim;
  const int64_t query_width = shape_.heads * head_dim;
  const int64_t kv_width = shape_.kv_heads * head_dim;
  const int64_t qkv_width = query_width + 2 * kv_width;
  Norm(layer.attention_norm, residual_, normed_, tokens_);
  Matmul(layer.qkv, normed_, hidden, tokens_, scratch_, qkv_width);

  int64_t first_row = 0;
  for (const SequenceInput& sequence : step.sequences) {
    const int64_t count = static_cast<int64_t>(sequence.tokens.size());
    for (int64_t i = 0; i < count; ++i) {
      float* const qkv = scratch_ + (first_row + i) * qkv_width;
      if (config_.head_norm) {
        NormHeads(layer.query_norm, shape_.heads, qkv);
        NormHeads(layer.key_norm, shape_.kv_heads, qkv + query_width);
      }
      if (config_.position == model::Position::kRotary) {
        // Queries and keys lie side by side, so one pass turns both.
        rope_.Apply(rotation_ + (first_row + i) * head_dim, shape_.heads + shape_.kv_heads, qkv);
      }
      const int64_t position = sequence.start + i;
      const BlockId block = sequence.blocks[static_cast<size_t>(position / kBlockTokens)];
      kv->Write(index, block, position % kBlockTokens, qkv + query_width, qkv + query_width + kv_width);
    }
    team_.Run(shape_.kv_heads, [&](int64_t begin, int64_t end) {
      kernels_.attention(AttentionArgs{.queries = scratch_ + first_row * qkv_width,
                                       .query_stride = qkv_width,
                                       .output = attended_ + first_row * query_width,
                                       .output_stride = query_width,
                                       .tokens = count,
                                       .start = sequence.start,
                                       .blocks = sequence.blocks.data(),
                                       .pool = kv->layer(index),
                                       .block_stride = kv->block_stride(),
                                       .bf16 = kv->bf16(),
                                       .kv_head_begin = begin,
                                       .kv_head_end = end,
                                       .group = shape_.heads / shape_.kv_heads,
                                       .head_dim = head_dim,
                                       .window = config_.windows[static_cast<size_t>(index)],
                                       .scale = 1.0f / std::sqrt(static_cast<float>(head_dim))});
    });
    first_row += count;
  }
  Matmul(layer.attention_out, attended_, query_width, tokens_, normed_, hidden);
  return AddToResidual();
}

absl::Status Decoder::MlpBlock(const LayerWeights& layer) {
  const int64_t inner = shape_.intermediate;
  const int64_t width = config_.gated_mlp ? 2 * inner : inner;
  Norm(layer.mlp_norm, residual_, normed_, tokens_);
  Matmul(layer.mlp_in, normed_, config_.hidden, tokens_, scratch_, width);
  const auto activate = config_.activation == model::Activation::kSilu ? kernels_.silu : kernels_.gelu_tanh;
  team_.Run(tokens_, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const gate = scratch_ + row * width;
      activate(ActivationArgs{gate, config_.gated_mlp ? gate + inner : nullptr, inner});
    }
  });
  Matmul(layer.mlp_out, scratch_, width, tokens_, normed_, config_.hidden);
  return AddToResidual();
}

absl::Status Decoder::AddToResidual() {
  const int64_t count = tokens_ * config_.hidden;
  if (absl::Status summed = communicator_.AllReduceSum(absl::MakeSpan(normed_, static_cast<size_t>(count)));
      !summed.ok()) {
    return summed;
  }
  for (int64_t i = 0; i < count; ++i) residual_[i] += normed_[i];
  return absl::OkStatus();
}

absl::StatusOr<absl::Span<const float>> Decoder::Logits(const StepInput& step) {
  const int64_t hidden = config_.hidden;
  int64_t rows = 0;
  int64_t last = -1;
  for (const SequenceInput& sequence : step.sequences) {
    last += static_cast<int64_t>(sequence.tokens.size());
    if (!sequence.sample) continue;
    Norm(weights_.final_norm, residual_ + last * hidden, normed_ + rows * hidden, 1);
    ++rows;
  }
  if (rows == 0) return absl::Span<const float>();

  const LinearWeights output{weights_.output, nullptr};
  if (shape_.size == 1) {
    Matmul(output, normed_, hidden, rows, logits_, config_.vocab);
    return absl::MakeConstSpan(logits_, static_cast<size_t>(rows * config_.vocab));
  }
  Matmul(output, normed_, hidden, rows, local_logits_, shape_.vocab);
  const size_t local = static_cast<size_t>(rows * shape_.vocab);
  const bool first = communicator_.rank() == 0;
  const absl::Status gathered =
      communicator_.Gather(absl::MakeConstSpan(local_logits_, local),
                           absl::MakeSpan(gathered_logits_, first ? local * static_cast<size_t>(shape_.size) : 0));
  if (!gathered.ok()) return gathered;
  if (!first) return absl::Span<const float>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int32_t rank = 0; rank < shape_.size; ++rank) {
      const int64_t begin = int64_t{rank} * shape_.vocab;
      const int64_t count = std::min<int64_t>(shape_.vocab, config_.vocab - begin);
      if (count <= 0) break;
      std::memcpy(logits_ + row * config_.vocab + begin, gathered_logits_ + (rank * rows + row) * shape_.vocab,
                  static_cast<size_t>(count) * sizeof(float));
    }
  }
  return absl::MakeConstSpan(logits_, static_cast<size_t>(rows * config_.vocab));
}

}  // namespace tandem::worker
