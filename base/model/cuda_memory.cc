#include "base/model/cuda_memory.h"

#include <algorithm>

namespace tandem::model {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kWorkspace = 32 << 20;  // cuBLASLt's
// Attention of a new token cuts its context into parts of at least this many tokens, and into no more parts.
constexpr int64_t kLeastPartition = 256;
constexpr int64_t kMostPartitions = 64;
constexpr int64_t kBlockTokens = 16;

constexpr int64_t kContext = int64_t{400} << 20;
constexpr int64_t kNccl = int64_t{256} << 20;
constexpr int64_t kGraphNode = 8 << 10;  // a kernel of a captured step, with its parameters
constexpr int64_t kNodesOfLayer = 12;
constexpr int64_t kLargestGraph = 256;

int64_t Aligned(int64_t bytes) { return RoundUp(bytes, kAlignment); }

int64_t Floats(int64_t count) { return Aligned(count * 4); }

int64_t WeightBytes(const DecoderConfig& config, const RankShape& shape, const CudaMemoryQuery& query) {
  const auto matrix = [&](int64_t columns, int64_t inner) { return Aligned(columns * inner * BytesOf(query.dtype)); };
  const int64_t hidden = config.hidden;
  const int64_t query_width = int64_t{shape.heads} * config.head_dim;
  const int64_t qkv_width = query_width + int64_t{2} * shape.kv_heads * config.head_dim;
  const int64_t mlp_width = int64_t{config.gated_mlp ? 2 : 1} * shape.intermediate;
  const int64_t norm = (config.norm == Norm::kLayer ? 2 : 1) * Floats(hidden);
  const int64_t once = query.first_rank ? Floats(hidden) : 0;

  int64_t layer = 2 * norm + matrix(qkv_width, hidden) + matrix(hidden, query_width) + matrix(mlp_width, hidden) +
                  matrix(hidden, shape.intermediate);
  if (config.qkv_bias) layer += Floats(qkv_width);
  if (config.attention_out_bias) layer += once;
  if (config.mlp_bias) layer += Floats(mlp_width) + once;
  int64_t bytes = layer * config.layers + norm;
  bytes += (config.tied_embeddings ? 1 : 2) * matrix(shape.vocab, hidden);
  if (config.position == Position::kLearned) bytes += Floats(int64_t{config.max_positions} * hidden);
  return bytes;
}

int64_t AttentionWorkspace(int64_t sequences, int64_t heads, int64_t head_dim, int64_t positions) {
  const int64_t needed = (positions + kMostPartitions - 1) / kMostPartitions;
  const int64_t partition = std::max(kLeastPartition, RoundUp(needed, 64));
  const int64_t partitions = std::max<int64_t>(1, (positions + partition - 1) / partition);
  return Floats(sequences * heads * partitions * (RoundUp(head_dim, kKvLanes) + 4));
}

int64_t ArenaBytes(const DecoderConfig& config, const RankShape& shape, const CudaMemoryQuery& query,
                   int64_t positions) {
  const int64_t sequences = query.max_sequences;
  const int64_t tokens = std::max<int64_t>(query.max_batch_tokens, sequences);
  const int64_t query_width = int64_t{shape.heads} * config.head_dim;
  const int64_t qkv_width = query_width + int64_t{2} * shape.kv_heads * config.head_dim;
  const int64_t mlp_width = int64_t{config.gated_mlp ? 2 : 1} * shape.intermediate;
  const auto elements = [&](int64_t count) { return Aligned(count * BytesOf(query.dtype)); };

  int64_t bytes = Floats(tokens * config.hidden) + elements(tokens * config.hidden);
  if (shape.size > 1) bytes += elements(tokens * config.hidden);
  bytes += std::max(elements(tokens * qkv_width) + elements(tokens * query_width),
                    elements(tokens * mlp_width) + elements(tokens * shape.intermediate));
  if (config.position == Position::kRotary) bytes += Floats(config.head_dim / 2) + Floats(tokens * config.head_dim);
  bytes += AttentionWorkspace(sequences, shape.heads, config.head_dim, positions);
  bytes += Floats(sequences * shape.vocab);
  if (shape.size > 1 && query.first_rank) bytes += Floats(sequences * shape.padded_vocab);
  bytes += kWorkspace;
  bytes += 3 * Floats(tokens) + 3 * Floats(sequences) + Floats(sequences + 1);   // the step's arrays
  bytes += Floats(sequences * ((positions + kBlockTokens - 1) / kBlockTokens));  // and block tables
  return bytes;
}

// 1, 2, 4, 8, then ever wider apart (worker/cuda/graph_sizes.h), and the largest itself.
int64_t Graphs(int64_t sequences) {
  const int64_t most = std::min(sequences, kLargestGraph);
  int64_t count = 0;
  for (int64_t size = 1; size <= most; size += size < 8 ? size : size < 64 ? 8 : size < 128 ? 16 : 32) ++count;
  return count + 1;
}

}  // namespace

absl::StatusOr<CudaMemory> CudaMemoryOfRank(const DecoderConfig& config, const CudaMemoryQuery& query) {
  const absl::StatusOr<RankShape> shape = ShapeOfRank(config, query.ranks);
  if (!shape.ok()) return shape.status();
  const int64_t positions =
      query.max_model_len > 0 ? std::min(config.max_positions, query.max_model_len) : config.max_positions;
  CudaMemory memory;
  memory.weight_bytes = WeightBytes(config, *shape, query);
  memory.arena_bytes = ArenaBytes(config, *shape, query, positions);
  memory.graph_bytes = Graphs(query.max_sequences) * config.layers * kNodesOfLayer * kGraphNode;
  memory.communicator_bytes = query.ranks > 1 ? kNccl : 0;
  memory.context_bytes = kContext;
  memory.kv_bytes_per_token = KvBytesPerToken(config, *shape, query.dtype);
  return memory;
}

}  // namespace tandem::model
