#include "base/model/model_memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tandem::model {
namespace {

int64_t BufferBytes(int64_t floats) { return RoundUp(floats * 4, kBufferAlignment); }

int64_t KvHeadBytes(const DecoderConfig& config, int64_t element_bytes) {
  return RoundUp(config.head_dim, kKvLanes) * element_bytes;
}

absl::Status Indivisible(absl::string_view what, int32_t count, int32_t ranks) {
  return absl::FailedPreconditionError(
      absl::StrCat(what, " ", count, " cannot be split over ", ranks, " ranks; choose a degree that divides it"));
}

}  // namespace

int64_t PackedBytes(int64_t columns, int64_t inner, DType stored) {
  const int64_t padded_inner = stored == DType::kBFloat16 ? RoundUp(inner, 2) : inner;
  return RoundUp(columns, kPanelColumns) * padded_inner * BytesOf(stored);
}

int64_t KvBytesPerToken(const DecoderConfig& config, const RankShape& shape, DType stored) {
  return int64_t{2} * config.layers * shape.kv_heads * KvHeadBytes(config, BytesOf(stored));
}

absl::StatusOr<RankShape> ShapeOfRank(const DecoderConfig& config, int32_t ranks) {
  if (ranks < 1 || ranks > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("tensor_parallel ", ranks, ", expected 1 to 1024"));
  }
  if (config.heads % ranks != 0) return Indivisible("num_attention_heads", config.heads, ranks);
  if (config.kv_heads % ranks != 0 && ranks % config.kv_heads != 0) {
    return Indivisible("num_key_value_heads", config.kv_heads, ranks);
  }
  if (config.intermediate % ranks != 0) return Indivisible("intermediate_size", config.intermediate, ranks);
  RankShape shape;
  shape.size = ranks;
  shape.heads = config.heads / ranks;
  shape.kv_heads = std::max(1, config.kv_heads / ranks);
  shape.intermediate = config.intermediate / ranks;
  shape.padded_vocab = static_cast<int32_t>(RoundUp(config.vocab, kPanelColumns * ranks));
  shape.vocab = shape.padded_vocab / ranks;
  return shape;
}

absl::StatusOr<DType> ChooseStoredDType(absl::string_view requested, DType file_dtype) {
  if (requested == "auto") return file_dtype == DType::kBFloat16 ? DType::kBFloat16 : DType::kFloat32;
  if (requested == NameOf(DType::kFloat32)) return DType::kFloat32;
  if (requested == NameOf(DType::kBFloat16)) return DType::kBFloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype \"", requested, "\" is not computed on CPU; choose auto, float32 or bfloat16"));
}

ArenaSizes SizeArena(const DecoderConfig& config, const RankShape& shape, int32_t max_batch_tokens,
                     int32_t max_sequences, bool first_rank) {
  const int64_t tokens = max_batch_tokens;
  const int64_t sequences = max_sequences;
  const int64_t attention = int64_t{2} * (shape.heads + shape.kv_heads) * config.head_dim;
  const int64_t mlp = int64_t{config.gated_mlp ? 2 : 1} * shape.intermediate;
  ArenaSizes sizes;
  sizes.residual = tokens * config.hidden;
  sizes.normed = std::max(tokens, sequences) * config.hidden;
  sizes.scratch = tokens * std::max(attention, mlp);
  sizes.rotation = config.position == Position::kRotary ? tokens * config.head_dim : 0;
  sizes.local_logits = shape.size > 1 ? sequences * shape.vocab : 0;
  sizes.gathered_logits = shape.size > 1 && first_rank ? sequences * shape.padded_vocab : 0;
  sizes.logits = first_rank ? sequences * config.vocab : 0;
  for (const int64_t floats : {sizes.residual, sizes.normed, sizes.scratch, sizes.rotation, sizes.local_logits,
                               sizes.gathered_logits, sizes.logits}) {
    sizes.total_bytes += BufferBytes(floats);
  }
  return sizes;
}

absl::StatusOr<RankMemory> MemoryOfRank(const DecoderConfig& config, const MemoryQuery& query) {
  const absl::StatusOr<RankShape> shape = ShapeOfRank(config, query.ranks);
  if (!shape.ok()) return shape.status();
  const DType stored = query.stored_dtype;
  const int64_t hidden = config.hidden;
  const int64_t attention_width = int64_t{shape->heads} * config.head_dim;
  const int64_t qkv_width = attention_width + int64_t{2} * shape->kv_heads * config.head_dim;
  const int64_t mlp_width = int64_t{config.gated_mlp ? 2 : 1} * shape->intermediate;
  const int64_t norm = (config.norm == Norm::kLayer ? 2 : 1) * BufferBytes(hidden);

  int64_t layer = 2 * norm;
  layer += PackedBytes(qkv_width, hidden, stored) + PackedBytes(hidden, attention_width, stored);
  layer += PackedBytes(mlp_width, hidden, stored) + PackedBytes(hidden, shape->intermediate, stored);
  // The biases of split-up inputs are added once, on rank 0.
  const int64_t once = query.first_rank ? BufferBytes(hidden) : 0;
  if (config.qkv_bias) layer += BufferBytes(qkv_width);
  if (config.head_norm) layer += 2 * BufferBytes(config.head_dim);
  if (config.attention_out_bias) layer += once;
  if (config.mlp_bias) layer += BufferBytes(mlp_width) + once;

  RankMemory memory;
  memory.weight_bytes = layer * config.layers + norm;
  memory.weight_bytes += (config.tied_embeddings ? 1 : 2) * PackedBytes(shape->vocab, hidden, stored);
  if (config.position == Position::kLearned) memory.weight_bytes += BufferBytes(config.max_positions * hidden);
  memory.activation_bytes =
      SizeArena(config, *shape, query.max_batch_tokens, query.max_sequences, query.first_rank).total_bytes;
  memory.kv_bytes_per_token = KvBytesPerToken(config, *shape, stored);
  return memory;
}

}  // namespace tandem::model
