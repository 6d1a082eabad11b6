// A Shard is this process's place in one group: the channel to the peers, the loaded slice of the model, and the table
// of running sequences. It does what any rank does; what rank 0 does besides is Leader's.
//
// Life: formed (the constructor) -> Load() -> WarmUp() -> ready: steps -> the end. Any failure is the end of the shard;
// the owner reports it, aborts the channel so that the peers leave too, and destroys the shard.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_ENGINE_SHARD_H_
#define TANDEM_WORKER_ENGINE_SHARD_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/group_channel.h"
#include "worker/engine/command.h"
#include "worker/engine/device_turn.h"
#include "worker/engine/report.h"
#include "worker/engine/sequence_table.h"
#include "worker/engine/step_plan.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// Where a shard gets its model and its memory from.
struct ShardServices {
  // Loads the slice of the communicator's rank. Status codes as LoadFailure() reads them.
  std::function<absl::StatusOr<std::unique_ptr<Executor>>(const LoadSpec& spec, Communicator* communicator)> load_model;
  // Bytes that this device can still give, the device's utilisation counted.
  std::function<int64_t()> free_bytes;
  // Private resident bytes of this process.
  std::function<int64_t()> private_bytes;
  // Shared by the shards of the device; null where there is one at most.
  DeviceTurn* turn = nullptr;
};

class Shard {
 public:
  Shard(std::shared_ptr<GroupChannel> channel, const ShardServices* services)
      : channel_(std::move(channel)), services_(services) {}

  const GroupIdentity& identity() const { return channel_->identity(); }
  GroupRef ref() const { return RefOf(identity()); }
  int rank() const { return identity().rank; }
  bool leads() const { return rank() == 0; }
  GroupChannel& channel() { return *channel_; }

  // Loads the model and takes as many KV blocks as the poorest rank can, between the spec's bounds. Blocks while peers
  // load. REQUIRES: called once.
  std::optional<GroupFailure> Load(const LoadSpec& spec);

  // One token through all ranks, on every rank at the same time. Afterwards the shard is ready.
  std::optional<GroupFailure> WarmUp();

  bool loaded() const { return executor_ != nullptr; }
  bool ready() const { return ready_; }
  const LoadSpec& spec() const { return spec_; }
  const LoadedShard& facts() const { return facts_; }
  const Executor& executor() const { return *executor_; }
  int32_t kv_blocks() const { return limits_.num_blocks; }
  int32_t max_model_len() const { return limits_.max_model_len; }
  uint64_t steps() const { return table_ ? table_->last_step() : 0; }

  // Rank 0: stamps the plan with group and number, hands it to the others, and computes this rank's part. The logits
  // are valid until the next step.
  absl::StatusOr<absl::Span<const float>> Lead(StepPlan plan);

  // Rank 0, between a step and the next: as Executor::FetchRow.
  absl::StatusOr<absl::Span<const float>> FetchRow(size_t i);

  // Rank 0: tells the others to leave in order.
  absl::Status LeadOut();

  enum class Followed {
    kNothing,  // nothing came; or a local command waits
    kStep,
    kLeft,  // rank 0 dissolved the group
  };
  // The others: waits for the next plan, at most `timeout` or until plans()->WakeSelf(), and computes it.
  absl::StatusOr<Followed> Follow(absl::Duration timeout);

  // Raised while a step runs, not while it waits for its turn; for heartbeats, any thread may read it.
  const std::atomic<bool>& busy() const { return busy_; }

 private:
  // One step: has the turn and is busy, until it goes.
  class Busy;
  absl::Status TakeTurn();
  absl::StatusOr<int32_t> AgreeOnBlocks(int32_t mine);
  absl::StatusOr<absl::Span<const float>> RunPlan(const StepPlan& plan);
  absl::Status Publish(StepPlan& plan);

  const std::shared_ptr<GroupChannel> channel_;
  const ShardServices* const services_;
  LoadSpec spec_;
  LoadedShard facts_;
  SequenceTable::Limits limits_;
  std::unique_ptr<Executor> executor_;
  std::optional<SequenceTable> table_;
  bool ready_ = false;
  std::atomic<bool> busy_{false};
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_SHARD_H_
