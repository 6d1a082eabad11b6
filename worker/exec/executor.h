// An Executor holds one rank's slice of one model, and computes the steps that the engine plans.
//
// It is handed numbers only: token ids, positions, block ids. Which request they belong to, what comes next and when to
// stop are the engine's business. The result of a sequence depends on that sequence alone: not on the batch it shares,
// nor on how its prompt was cut into chunks, nor on which blocks were computed earlier ("batch-invariant", DESIGN 9).
// What may differ between machines is named by numerics_id().
//
// Belongs to the engine thread. progress() alone may be read from elsewhere.
#ifndef TANDEM_WORKER_EXEC_EXECUTOR_H_
#define TANDEM_WORKER_EXEC_EXECUTOR_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem::worker {

using TokenId = int32_t;
using BlockId = int32_t;

// Tokens of one KV block. The prefix hash of the protocol counts in these, so it is no option.
inline constexpr int kBlockTokens = 16;

// A device picks so many of a row's tokens at most.
inline constexpr int32_t kMostBestTokens = 64;

// What the sampler will look at of a sequence's logits: where a few tokens do, the row need not cross ranks, nor come
// to the host. A hint: an executor that has its logits at hand brings every row whole. Equal on all ranks.
struct LogitsWanted {
  int32_t best = 0;       // so many of the highest may do, kMostBestTokens at most; 0: the whole row is needed
  bool row = true;        // with `best`: the row may be asked for all the same (FetchRow)
  float temperature = 0;  // with `best`: of the sums that are wanted beside them; 0: none are

  friend bool operator==(const LogitsWanted&, const LogitsWanted&) = default;
};

// One sequence's part of a step.
struct SequenceInput {
  absl::Span<const TokenId> tokens;  // what to compute now, at least one
  int32_t start = 0;                 // position of tokens[0]; the keys and values of [0, start) are in `blocks` already
  absl::Span<const BlockId> blocks;  // block table; covers [0, start + tokens.size())
  bool sample = false;               // the logits after the last token are wanted
  int32_t second_text_at = 0;        // of an encoder: where the tokens of the second text begin; 0: there is none
  LogitsWanted wanted;               // of the logits after the last token
  absl::Span<const uint8_t> image;   // of an encoder: a picture as ReadImage gave it; `tokens` only say how many it is
};

struct StepInput {
  absl::Span<const SequenceInput> sequences;
};

struct TokenLogit {
  TokenId token = 0;
  float logit = 0;
};

// What a device found of one row of logits.
struct BestTokens {
  absl::Span<const TokenLogit> tokens;   // higher logit first, then lower id; empty: Run gave the whole row instead
  double sum = 0;                        // where sums were wanted, over the whole row: of exp(logit - highest),
  double tempered_sum = 0;               // of exp((logit - highest) / temperature)
  std::optional<TokenLogit> not_finite;  // the lowest token whose logit is no finite number
};
// The sums are right to this share. A device takes exponentials, and adds up 32 of them, in float, the rest in double:
// of the difference to the highest (20 at most where it matters), its tempering, the exponential and the additions,
// 6e-6.
inline constexpr double kSumError = 1e-5;

// What a loaded model tells the engine and the scheduler.
struct ModelFacts {
  int32_t vocab_size = 0;          // without padding
  int32_t vector_size = 0;         // of an encoder: the numbers that answer a text; 0: a decoder
  int32_t image_tokens = 0;        // how many tokens a picture counts; 0: the model reads none
  int32_t text_tokens = 0;         // of a model that reads pictures too: the longest text
  int32_t max_positions = 0;       // longest context that the model was made for
  std::vector<TokenId> eos_ids;    // from generation_config.json, else config.json
  int64_t kv_bytes_per_block = 0;  // of this rank, all layers
  std::string revision;            // hash of the manifest: equal folders, equal revisions
};

// Bytes that this shard holds in this process, measured where it can be.
struct MemoryReport {
  int64_t weight_bytes = 0;      // read from the model's files for this rank (mapped or copied)
  int64_t packed_bytes = 0;      // copies in the kernels' own layout, private
  int64_t activation_bytes = 0;  // the arena of a full step
  int64_t kv_bytes = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;

  virtual const ModelFacts& facts() const = 0;
  virtual MemoryReport memory() const = 0;
  // Kernels, ISA, dtype and TP degree: equal ids, equal bits.
  virtual const std::string& numerics_id() const = 0;

  // Takes memory for the pool. Called once, after all else is allocated.
  virtual absl::Status AllocateKv(int32_t num_blocks) = 0;

  // Computes one step on this rank, with the collectives that it needs. Rank 0 receives one row of vocab_size fp32
  // logits for each sequence with `sample` but for those of which best() has tokens, in order; the other ranks receive
  // nothing. Valid until the next Run.
  // REQUIRES: the sum of tokens <= max_batch_tokens and sequences <= max_sequences given at load; every block id is
  // below num_blocks; blocks that two sequences share are only read. On error the shard is spent.
  //
  // An encoder gives vector_size numbers in the place of logits. Its sequences come whole, and leave nothing behind.
  virtual absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) = 0;

  // On rank 0 after Run: for each sequence with `sample`, in order, what was found of its row. Empty where Run gave all
  // rows whole. Valid until the next Run.
  virtual absl::Span<const BestTokens> best() const { return {}; }
  // The whole row of the i-th of them. REQUIRES: best() has tokens of it, and the row was wanted. Valid until the next
  // call of this or of Run.
  virtual absl::StatusOr<absl::Span<const float>> FetchRow(size_t) {
    return absl::UnimplementedError("this executor gives whole rows");
  }

  // The picture in a file that a caller sent, as Run takes it. INVALID_ARGUMENT: why the file is no such picture, in
  // words for the caller; the shard is as it was.
  virtual absl::StatusOr<std::vector<uint8_t>> ReadImage(absl::string_view /*file*/) const {
    return absl::InvalidArgumentError("the model reads no pictures");
  }

  // Raised after every layer: a step that stands still can be told from a long one.
  virtual const std::atomic<uint64_t>& progress() const = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_EXECUTOR_H_
