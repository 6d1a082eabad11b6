// How many bytes one rank of a model needs, from its config alone: what placement plans with.
//
// The formula counts what the CPU executor takes, buffer by buffer (a test holds the two together): packed weights, the
// arena of a full step, and KV by the token. What a process needs besides (code, stacks, sockets) is not in it.
#ifndef TANDEM_BASE_MODEL_MODEL_MEMORY_H_
#define TANDEM_BASE_MODEL_MODEL_MEMORY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/model/dtype.h"
#include "base/model/model_config.h"

namespace tandem::model {

// Packed matrices come in panels of this many output columns.
inline constexpr int64_t kPanelColumns = 64;
// Keys and values of one head are padded to a multiple of this many elements.
inline constexpr int64_t kKvLanes = 16;
// Every buffer begins on a cache line.
inline constexpr int64_t kBufferAlignment = 64;

constexpr int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// How a model is cut over `size` ranks. Sizes are of one rank.
struct RankShape {
  int32_t size = 1;
  int32_t heads = 0;     // query heads
  int32_t kv_heads = 0;  // where there are fewer than ranks, neighbours hold the same one
  int32_t intermediate = 0;
  int32_t vocab = 0;         // rows of the embedding, with padding
  int32_t padded_vocab = 0;  // of all ranks together
};

// Refuses a degree that does not divide the model, by the name of what it does not divide.
absl::StatusOr<RankShape> ShapeOfRank(const DecoderConfig& config, int32_t ranks);

// The type that weights are stored in: `requested` is auto, float32 or bfloat16. With auto, bfloat16 files stay so, and
// all others are stored as float32 (float16 is widened: the kernels do not compute in it).
absl::StatusOr<DType> ChooseStoredDType(absl::string_view requested, DType file_dtype);

struct MemoryQuery {
  int32_t ranks = 1;
  DType stored_dtype = DType::kBFloat16;  // of weights and KV; kFloat32 or kBFloat16
  int32_t max_batch_tokens = 512;
  int32_t max_sequences = 64;
  bool first_rank = true;  // rank 0 also holds the logits of all, and the biases that are added once
};

struct RankMemory {
  int64_t weight_bytes = 0;      // matrices, norms and biases
  int64_t activation_bytes = 0;  // the arena of a full step
  int64_t kv_bytes_per_token = 0;
};

absl::StatusOr<RankMemory> MemoryOfRank(const DecoderConfig& config, const MemoryQuery& query);

// A matrix of `columns` outputs over `inner` inputs in the packed layout (worker/model/packed_matrix.h). bfloat16 keeps
// two inputs together, so an odd `inner` is padded.
int64_t PackedBytes(int64_t columns, int64_t inner, DType stored);

int64_t KvBytesPerToken(const DecoderConfig& config, const RankShape& shape, DType stored);

// Floats of each buffer of the arena, shared with the executor that allocates them.
struct ArenaSizes {
  int64_t residual = 0;
  int64_t normed = 0;   // also what a block hands to the all-reduce
  int64_t scratch = 0;  // attention: qkv and its output; then MLP: gate and up
  int64_t rotation = 0;
  int64_t local_logits = 0;
  int64_t gathered_logits = 0;  // rank 0 of several
  int64_t logits = 0;           // rank 0
  int64_t total_bytes = 0;
};
ArenaSizes SizeArena(const DecoderConfig& config, const RankShape& shape, int32_t max_batch_tokens,
                     int32_t max_sequences, bool first_rank);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_MODEL_MEMORY_H_
