#include "base/model/encoder_memory.h"

#include <algorithm>

#include "base/model/model_memory.h"

namespace tandem::model {
namespace {

int64_t BufferBytes(int64_t floats) { return RoundUp(floats * 4, kBufferAlignment); }

}  // namespace

EncoderArena SizeEncoderArena(const EncoderConfig& config, int32_t max_batch_tokens, int32_t max_sequences) {
  const int64_t tokens = max_batch_tokens;
  const int64_t sequences = max_sequences;
  constexpr int64_t kTile = 16;
  EncoderArena arena;
  arena.hidden = tokens * config.hidden;
  arena.normed = std::max(tokens, sequences) * config.hidden;
  arena.scratch =
      std::max(tokens * std::max<int64_t>(int64_t{4} * config.hidden, config.intermediate), sequences * config.hidden);
  arena.tiles = RoundUp(config.max_tokens, kTile) * 2 * config.heads * RoundUp(config.head_dim, kKvLanes);
  arena.output = sequences * config.vector_size();
  for (const int64_t floats : {arena.hidden, arena.normed, arena.scratch, arena.tiles, arena.output}) {
    arena.total_bytes += BufferBytes(floats);
  }
  return arena;
}

int64_t EncoderWeightBytes(const EncoderConfig& config, DType stored) {
  const int64_t hidden = config.hidden;
  const auto linear = [&](int64_t columns, int64_t inner) {
    return PackedBytes(columns, inner, stored) + BufferBytes(columns);
  };
  const int64_t norm = 2 * BufferBytes(hidden);
  const int64_t layer = linear(3 * hidden, hidden) + linear(hidden, hidden) + linear(config.intermediate, hidden) +
                        linear(hidden, config.intermediate) + 2 * norm;
  int64_t bytes = layer * config.layers + norm;
  bytes += BufferBytes(config.vocab * hidden) + BufferBytes(config.positions * hidden);
  bytes += BufferBytes(config.types * hidden);
  if (config.head == EncoderHead::kClassifier) bytes += linear(hidden, hidden) + linear(config.labels, hidden);
  return bytes;
}

int32_t EncoderBatchTokens(const EncoderConfig& config, int32_t wanted) { return std::max(wanted, config.max_tokens); }

}  // namespace tandem::model
