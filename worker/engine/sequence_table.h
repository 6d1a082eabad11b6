// A SequenceTable is what every rank keeps of the running sequences: per slot the block table and how far it is
// computed.
//
// Apply() turns the next plan into the input of the executor, or says why the plan can not be the next one: another
// group, a gap in the steps, a slot that does not exist, tokens that do not follow what was computed, blocks that do
// not cover them or that the pool does not have. After an error the table is spent, and so is the group.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_ENGINE_SEQUENCE_TABLE_H_
#define TANDEM_WORKER_ENGINE_SEQUENCE_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/group_identity.h"
#include "worker/engine/step_plan.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

class SequenceTable {
 public:
  struct Limits {
    uint32_t max_sequences = 0;     // slots
    uint32_t max_batch_tokens = 0;  // of one step
    int32_t max_model_len = 0;
    int32_t num_blocks = 0;
    int32_t vocab_size = 0;
  };

  SequenceTable(uint64_t group_id, GroupEpoch epoch, const Limits& limits);

  // The executor's input for `plan`. Its spans point into `plan` and into this table: valid until either changes.
  absl::StatusOr<StepInput> Apply(const StepPlan& plan);

  // Forgets all sequences; for a step that all ranks know to be the warm-up.
  void RetireAll();

  uint64_t last_step() const { return last_step_; }

 private:
  struct Row {
    bool live = false;
    int32_t computed = 0;
    std::vector<BlockId> blocks;
  };

  absl::Status CheckHeader(const StepPlan& plan) const;

  const uint64_t group_id_;
  const GroupEpoch epoch_;
  const Limits limits_;
  uint64_t last_step_ = 0;
  std::vector<Row> rows_;
  std::vector<uint64_t> scheduled_in_;  // The last step that had the slot: a slot comes once in a step.
  std::vector<SequenceInput> inputs_;   // Of the last step.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_SEQUENCE_TABLE_H_
