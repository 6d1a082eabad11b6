#include "base/model/clip_memory.h"

#include <algorithm>

#include "base/model/encoder_memory.h"
#include "base/model/model_memory.h"

namespace tandem::model {
namespace {

int64_t BufferBytes(int64_t floats) { return RoundUp(floats * 4, kBufferAlignment); }

int64_t LinearBytes(int64_t columns, int64_t inner, bool bias, DType stored) {
  return PackedBytes(columns, inner, stored) + (bias ? BufferBytes(columns) : 0);
}

int64_t TowerBytes(const ClipTower& tower, DType stored) {
  const int64_t hidden = tower.hidden;
  const int64_t norm = 2 * BufferBytes(hidden);
  const int64_t layer = LinearBytes(3 * hidden, hidden, true, stored) + LinearBytes(hidden, hidden, true, stored) +
                        LinearBytes(tower.intermediate, hidden, true, stored) +
                        LinearBytes(hidden, tower.intermediate, true, stored) + 2 * norm;
  return layer * tower.layers + norm + BufferBytes(tower.positions * hidden);
}

}  // namespace

ClipArena SizeClipArena(const ClipConfig& config, int32_t max_batch_tokens, int32_t max_sequences) {
  const int64_t tokens = max_batch_tokens;
  const int64_t sequences = max_sequences;
  constexpr int64_t kTile = 16;
  ClipArena arena;
  for (const ClipTower* tower : {&config.text, &config.image}) {
    const int64_t hidden = tower->hidden;
    arena.hidden = std::max(arena.hidden, tokens * hidden);
    arena.normed = std::max(arena.normed, std::max(tokens, sequences) * hidden);
    arena.scratch = std::max(arena.scratch, tokens * std::max<int64_t>(4 * hidden, tower->intermediate));
    arena.tiles =
        std::max(arena.tiles, RoundUp(tower->positions, kTile) * 2 * tower->heads * RoundUp(tower->head_dim, kKvLanes));
  }
  arena.scratch = std::max(arena.scratch, tokens * config.patch_values());
  arena.output = sequences * config.vector;
  for (const int64_t floats : {arena.hidden, arena.normed, arena.scratch, arena.tiles, arena.output}) {
    arena.total_bytes += BufferBytes(floats);
  }
  return arena;
}

int64_t ClipWeightBytes(const ClipConfig& config, DType stored) {
  int64_t bytes = TowerBytes(config.text, stored) + TowerBytes(config.image, stored);
  bytes += BufferBytes(int64_t{config.vocab} * config.text.hidden);
  bytes += BufferBytes(config.image.hidden);      // the class token
  bytes += 2 * BufferBytes(config.image.hidden);  // the norm before the first layer
  bytes += LinearBytes(config.image.hidden, config.patch_values(), false, stored);
  bytes += LinearBytes(config.vector, config.text.hidden, false, stored);
  bytes += LinearBytes(config.vector, config.image.hidden, false, stored);
  return bytes;
}

int32_t ClipBatchTokens(const ClipConfig& config, int32_t wanted) { return std::max(wanted, config.max_tokens()); }

int64_t ClipQueuedTokenBytes(const ClipConfig& config) {
  const int64_t tokens = config.image_tokens();
  return kQueuedTokenBytes + (config.image_bytes() + tokens - 1) / tokens;
}

}  // namespace tandem::model
