// A StepPlan is one step of a group as data: what every rank computes, equal on all of them.
//
// Rank 0 makes it, publishes its encoding, and every rank (rank 0 too) applies it to its own SequenceTable. It holds
// differences only: a sequence's block ids travel once, its tokens when they are computed, and a sampled token as the
// input of the step that follows. So a plan's size is bounded by the step, not by the length of the sequences.
//
// Numbers that only check (step, start) are there so that a rank that lost a plan or its place fails the group instead
// of computing something else than its peers (DESIGN 6).
#ifndef TANDEM_WORKER_ENGINE_STEP_PLAN_H_
#define TANDEM_WORKER_ENGINE_STEP_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/comm/group_identity.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// One sequence's part of a step. Its tokens and new blocks follow those of the entry before, in StepPlan's flat lists.
struct PlanEntry {
  uint32_t slot = 0;         // which row of the SequenceTable
  bool fresh = false;        // a new sequence: the slot forgets what it held
  bool sample = false;       // rank 0 wants the logits after the last token
  int32_t start = 0;         // position of the first token; what comes before is in the blocks
  uint32_t token_count = 0;  // at least 1
  uint32_t block_count = 0;  // blocks that the sequence did not have yet
  // Of an encoder, whose group has one rank: no plan of it travels, so this is not encoded.
  int32_t second_text_at = 0;
  LogitsWanted wanted;              // where `sample`
  absl::Span<const uint8_t> image;  // of an encoder too, so not encoded; valid while the sequence is

  friend bool operator==(const PlanEntry&, const PlanEntry&) = default;
};

struct StepPlan {
  enum class Kind : uint8_t {
    kRun = 1,       // compute the entries
    kDissolve = 2,  // leave the group; there are no entries
  };

  Kind kind = Kind::kRun;
  uint64_t group_id = 0;
  GroupEpoch epoch;
  uint64_t step = 0;              // counts from 1, without gaps
  uint32_t graph_size = 0;        // captured graph that fits the step; 0: run without one
  std::vector<uint32_t> retired;  // slots whose sequences ended or were preempted; applied before the entries
  std::vector<PlanEntry> entries;
  std::vector<TokenId> tokens;  // of all entries, in their order
  std::vector<BlockId> blocks;  // of all entries, in their order

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

// Fixed-width little-endian words. The ring adds length and checksum.
std::string EncodePlan(const StepPlan& plan);

// INVALID_ARGUMENT where `bytes` is not exactly one well-formed plan. Takes memory in proportion to `bytes` only.
// Whether the numbers make sense is SequenceTable's to say.
absl::StatusOr<StepPlan> DecodePlan(absl::string_view bytes);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_STEP_PLAN_H_
