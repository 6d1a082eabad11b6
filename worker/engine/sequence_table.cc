#include "worker/engine/sequence_table.h"

#include <glog/logging.h>

#include "absl/strings/str_cat.h"

namespace tandem::worker {

SequenceTable::SequenceTable(uint64_t group_id, GroupEpoch epoch, const Limits& limits)
    : group_id_(group_id),
      epoch_(epoch),
      limits_(limits),
      rows_(limits.max_sequences),
      scheduled_in_(limits.max_sequences, 0) {}

absl::Status SequenceTable::CheckHeader(const StepPlan& plan) const {
  if (plan.group_id != group_id_ || plan.epoch != epoch_) {
    return absl::FailedPreconditionError(absl::StrCat("a plan of group ", plan.group_id, " epoch ",
                                                      plan.epoch.ToString(), " came to group ", group_id_, " epoch ",
                                                      epoch_.ToString()));
  }
  if (plan.step != last_step_ + 1) {
    return absl::DataLossError(absl::StrCat("step ", plan.step, " came after step ", last_step_));
  }
  if (plan.entries.size() > limits_.max_sequences || plan.tokens.size() > limits_.max_batch_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("step ", plan.step, " has ", plan.entries.size(), " sequences and ",
                                                   plan.tokens.size(), " tokens, the limits are ",
                                                   limits_.max_sequences, " and ", limits_.max_batch_tokens));
  }
  return absl::OkStatus();
}

absl::StatusOr<StepInput> SequenceTable::Apply(const StepPlan& plan) {
  if (absl::Status header = CheckHeader(plan); !header.ok()) return header;
  auto error = [&](uint32_t slot, auto... words) {
    return absl::InvalidArgumentError(absl::StrCat("step ", plan.step, ", slot ", slot, ": ", words...));
  };
  last_step_ = plan.step;

  for (uint32_t slot : plan.retired) {
    if (slot >= rows_.size() || !rows_[slot].live) return error(slot, "retired without being in use");
    rows_[slot].live = false;
    rows_[slot].blocks.clear();
  }

  inputs_.clear();
  size_t token_at = 0;
  size_t block_at = 0;
  for (const PlanEntry& entry : plan.entries) {
    if (entry.slot >= rows_.size()) return error(entry.slot, "there are ", rows_.size(), " slots");
    if (scheduled_in_[entry.slot] == plan.step) return error(entry.slot, "comes twice");
    scheduled_in_[entry.slot] = plan.step;
    Row& row = rows_[entry.slot];
    if (entry.fresh == row.live) return error(entry.slot, row.live ? "given away while in use" : "is not in use");
    if (entry.fresh) {
      row.live = true;
      row.computed = entry.start;  // The cached prefix.
      row.blocks.clear();
    }
    if (entry.start != row.computed || entry.start < 0) {
      return error(entry.slot, "starts at ", entry.start, ", computed are ", row.computed);
    }
    if (token_at + entry.token_count > plan.tokens.size() || block_at + entry.block_count > plan.blocks.size()) {
      return error(entry.slot, "has more tokens or blocks than the plan");
    }
    int64_t end = int64_t{entry.start} + entry.token_count;
    if (entry.token_count == 0 || end > limits_.max_model_len) {
      return error(entry.slot, entry.token_count, " tokens from ", entry.start, " on, the context has ",
                   limits_.max_model_len);
    }
    for (uint32_t i = 0; i < entry.block_count; ++i) {
      BlockId block = plan.blocks[block_at + i];
      if (block < 0 || block >= limits_.num_blocks) {
        return error(entry.slot, "block ", block, " of ", limits_.num_blocks);
      }
      row.blocks.push_back(block);
    }
    if (static_cast<int64_t>(row.blocks.size()) * kBlockTokens < end) {
      return error(entry.slot, row.blocks.size(), " blocks do not cover ", end, " tokens");
    }
    absl::Span<const TokenId> tokens = absl::MakeConstSpan(plan.tokens).subspan(token_at, entry.token_count);
    for (TokenId token : tokens) {
      if (token < 0 || token >= limits_.vocab_size) {
        return error(entry.slot, "token id ", token, ", the vocabulary has ", limits_.vocab_size);
      }
    }
    inputs_.push_back({.tokens = tokens,
                       .start = entry.start,
                       .blocks = row.blocks,
                       .sample = entry.sample,
                       .second_text_at = entry.second_text_at,
                       .wanted = entry.wanted,
                       .image = entry.image});
    row.computed = static_cast<int32_t>(end);
    token_at += entry.token_count;
    block_at += entry.block_count;
  }
  return StepInput{.sequences = inputs_};
}

void SequenceTable::RetireAll() {
  for (Row& row : rows_) row = Row();
}

}  // namespace tandem::worker
