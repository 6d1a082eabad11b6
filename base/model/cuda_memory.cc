#include "base/model/cuda_memory.h"

#include <algorithm>
#include <initializer_list>

#include "base/model/clip_memory.h"
#include "base/model/encoder_memory.h"

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
  if (config.head_norm) layer += 2 * Floats(config.head_dim);
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
  return Floats(sequences * heads * partitions * (RoundUp(head_dim, kKvLanes) + 2));
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

// ---- encoders

// What a transformer of an encoder is laid out by, an encoder's own or one of CLIP's two.
struct Tower {
  int64_t layers, hidden, heads, head_dim, intermediate;
  int64_t tokens, sequences, longest;  // of a step, and tokens of one sequence
};

class EncoderSizes {
 public:
  explicit EncoderSizes(DType type) : element_(BytesOf(type)) {}

  int64_t Elements(int64_t count) const { return Aligned(count * element_); }
  int64_t Linear(int64_t columns, int64_t inner) const { return Elements(columns * inner) + Floats(columns); }

  int64_t LayerWeights(const Tower& tower) const {
    const int64_t hidden = tower.hidden;
    return tower.layers * (Linear(3 * hidden, hidden) + Linear(hidden, hidden) + Linear(tower.intermediate, hidden) +
                           Linear(hidden, tower.intermediate) + 4 * Floats(hidden));
  }

  // What the towers take in turn, and cuBLASLt's workspace.
  int64_t Shared(std::initializer_list<Tower> towers, int64_t other_scratch) const {
    int64_t rows = 0, scratch = other_scratch, kv = 0;
    for (const Tower& tower : towers) {
      const int64_t states = tower.tokens * tower.hidden;
      rows = std::max(rows, states);
      scratch =
          std::max({scratch, Elements(3 * states) + states * element_, tower.tokens * tower.intermediate * element_});
      const int64_t blocks = tower.tokens / kBlockTokens + tower.sequences;
      kv = std::max(kv, blocks * 2 * kBlockTokens * tower.heads * RoundUp(tower.head_dim, kKvLanes) * element_);
    }
    return Floats(rows) + Elements(rows) + Aligned(scratch) + Aligned(kv) + kWorkspace;
  }

  // The step's arrays: `arrays` with an entry for each token, where each sequence begins and starts, and block tables.
  static int64_t Arrays(const Tower& tower, int64_t arrays) {
    const int64_t stride = (tower.longest + kBlockTokens - 1) / kBlockTokens;
    return arrays * Floats(tower.tokens) + Floats(tower.sequences + 1) + Floats(tower.sequences) +
           Floats(tower.sequences * stride);
  }

 private:
  const int64_t element_;
};

Tower TowerOf(const ClipTower& tower, int64_t tokens, int64_t sequences, int64_t longest) {
  return {tower.layers, tower.hidden, tower.heads, tower.head_dim, tower.intermediate, tokens, sequences, longest};
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

CudaMemory CudaMemoryOfEncoder(const EncoderConfig& config, const CudaEncoderQuery& query) {
  const EncoderSizes sizes(query.dtype);
  const int64_t hidden = config.hidden;
  const int64_t texts = query.max_sequences;
  const Tower tower{config.layers,
                    hidden,
                    config.heads,
                    config.head_dim,
                    config.intermediate,
                    EncoderBatchTokens(config, query.max_batch_tokens),
                    texts,
                    config.max_tokens};
  CudaMemory memory;
  memory.weight_bytes = sizes.Elements(config.vocab * hidden) + Floats(config.positions * hidden) +
                        Floats(config.types * hidden) + 2 * Floats(hidden) + sizes.LayerWeights(tower);
  memory.arena_bytes = sizes.Shared({tower}, /*other_scratch=*/0) + Floats(texts * config.vector_size()) +
                       EncoderSizes::Arrays(tower, /*arrays=*/4);
  if (config.head == EncoderHead::kClassifier) {
    memory.weight_bytes += sizes.Linear(hidden, hidden) + sizes.Linear(config.labels, hidden);
    memory.arena_bytes += 2 * sizes.Elements(texts * hidden);
  }
  memory.context_bytes = kContext;
  memory.kv_bytes_per_token = kQueuedTokenBytes;
  return memory;
}

CudaMemory CudaMemoryOfClip(const ClipConfig& config, const CudaEncoderQuery& query) {
  const EncoderSizes sizes(query.dtype);
  const int64_t sequences = query.max_sequences;
  const int64_t tokens = ClipBatchTokens(config, query.max_batch_tokens);
  const int64_t images = std::min<int64_t>(sequences, tokens / config.image_tokens());
  const Tower text = TowerOf(config.text, tokens, sequences, config.text.positions);
  const Tower image = TowerOf(config.image, images * config.image_tokens(), images, config.image_tokens());
  CudaMemory memory;
  memory.weight_bytes = sizes.Elements(config.vocab * text.hidden);
  for (const Tower& tower : {text, image}) {
    // Either has a position for each token of its longest input.
    memory.weight_bytes += Floats(tower.longest * tower.hidden) + sizes.LayerWeights(tower) + 2 * Floats(tower.hidden) +
                           sizes.Elements(config.vector * tower.hidden);
  }
  memory.weight_bytes += sizes.Elements(image.hidden) + sizes.Elements(image.hidden * config.patch_values()) +
                         2 * Floats(image.hidden) + Floats(3 * 256);
  const int64_t patch_bytes = image.tokens * config.patch_values() * BytesOf(query.dtype);
  memory.arena_bytes = sizes.Shared({text, image}, std::max(patch_bytes, sequences * config.vector * 4)) +
                       Floats(sequences * config.vector);
  for (const Tower& tower : {text, image}) {
    memory.arena_bytes += EncoderSizes::Arrays(tower, /*arrays=*/3) + 2 * Floats(tower.sequences);
  }
  memory.arena_bytes += Aligned(images * config.image_bytes());
  memory.context_bytes = kContext;
  memory.kv_bytes_per_token = ClipQueuedTokenBytes(config);
  return memory;
}

}  // namespace tandem::model
