#include "worker/engine/shard.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

constexpr uint32_t kDefaultSequences = 64;
constexpr uint32_t kDefaultBatchTokens = 512;
constexpr std::chrono::milliseconds kTurnSlice{50};  // Between two looks whether the group was aborted meanwhile.

}  // namespace

class Shard::Busy {
 public:
  explicit Busy(Shard* shard) : shard_(shard) { shard_->busy_ = true; }
  ~Busy() {
    shard_->busy_ = false;
    if (shard_->services_->turn != nullptr) shard_->services_->turn->Give();
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Shard* const shard_;
};

absl::Status Shard::TakeTurn() {
  if (services_->turn == nullptr) return absl::OkStatus();
  while (!services_->turn->Take(identity().size > 1, kTurnSlice)) {
    if (absl::Status health = channel_->Health(); !health.ok()) return health;
  }
  return absl::OkStatus();
}

std::optional<GroupFailure> Shard::Load(const LoadSpec& spec) {
  CHECK(!loaded()) << ref().ToString();
  spec_ = spec;
  if (spec_.max_sequences == 0) spec_.max_sequences = kDefaultSequences;
  if (spec_.max_batch_tokens == 0) spec_.max_batch_tokens = kDefaultBatchTokens;
  // Every running sequence has a token in a step.
  spec_.max_batch_tokens = std::max(spec_.max_batch_tokens, spec_.max_sequences);

  const int64_t before = services_->private_bytes();
  absl::StatusOr<std::unique_ptr<Executor>> executor = services_->load_model(spec_, &channel_->communicator());
  if (!executor.ok()) return LoadFailure(executor.status());
  const ModelFacts& facts = (*executor)->facts();

  const int64_t block_bytes = std::max<int64_t>(facts.kv_bytes_per_block, 1);
  const int64_t target = static_cast<int64_t>(std::max(spec_.kv_target_bytes, spec_.kv_min_bytes));
  const int64_t free = services_->free_bytes();
  const int64_t blocks = std::min<int64_t>(std::min(target, free) / block_bytes, std::numeric_limits<BlockId>::max());
  if (blocks < 1 || blocks * block_bytes < static_cast<int64_t>(spec_.kv_min_bytes) / block_bytes * block_bytes) {
    return GroupFailure{FailureReason::kNoCapacity,
                        absl::StrCat(spec_.model, ": KV needs at least ",
                                     std::max<int64_t>(static_cast<int64_t>(spec_.kv_min_bytes), block_bytes),
                                     " bytes after loading, ", free, " are free, ", target, " were asked for")};
  }
  absl::StatusOr<int32_t> agreed = AgreeOnBlocks(static_cast<int32_t>(blocks));
  if (!agreed.ok()) return StepFailure(agreed.status());
  if (absl::Status taken = (*executor)->AllocateKv(*agreed); !taken.ok()) return LoadFailure(taken);

  int32_t context = facts.max_positions;
  if (spec_.max_model_len != 0 && static_cast<int64_t>(spec_.max_model_len) < context) {
    context = static_cast<int32_t>(spec_.max_model_len);
  }
  // An encoder takes a text in one step.
  if (facts.vector_size > 0) spec_.max_batch_tokens = std::max(spec_.max_batch_tokens, static_cast<uint32_t>(context));
  limits_ = {.max_sequences = spec_.max_sequences,
             .max_batch_tokens = spec_.max_batch_tokens,
             .max_model_len = context,
             .num_blocks = *agreed,
             .vocab_size = facts.vocab_size};
  facts_ = {.memory = (*executor)->memory(),
            .measured_growth_bytes = std::max<int64_t>(0, services_->private_bytes() - before),
            .numerics_id = (*executor)->numerics_id()};
  table_.emplace(identity().group_id, identity().epoch, limits_);
  executor_ = *std::move(executor);
  return std::nullopt;
}

absl::StatusOr<int32_t> Shard::AgreeOnBlocks(int32_t mine) {
  Communicator& communicator = channel_->communicator();
  uint8_t sent[sizeof(mine)];
  std::memcpy(sent, &mine, sizeof(mine));
  std::vector<uint8_t> received(sizeof(mine) * communicator.size());
  absl::Status gathered = communicator.AllGather(sent, absl::MakeSpan(received));
  if (!gathered.ok()) return gathered;
  int32_t least = mine;
  for (int rank = 0; rank < communicator.size(); ++rank) {
    int32_t theirs;
    std::memcpy(&theirs, received.data() + rank * sizeof(theirs), sizeof(theirs));
    least = std::min(least, theirs);
  }
  if (least < 1) return absl::InternalError(absl::StrCat("a rank offered ", least, " KV blocks"));
  return least;
}

std::optional<GroupFailure> Shard::WarmUp() {
  StepPlan plan;
  plan.entries = {{.slot = 0, .fresh = true, .sample = true, .token_count = 1, .block_count = 1}};
  plan.tokens = {0};
  plan.blocks = {0};
  absl::Status ran;
  if (leads()) {
    absl::StatusOr<absl::Span<const float>> logits = Lead(std::move(plan));
    ran = logits.status();
    if (ran.ok() && !std::all_of(logits->begin(), logits->end(), [](float x) { return std::isfinite(x); })) {
      ran = absl::InternalError("the model computes logits that are not finite numbers");
    }
  } else {
    absl::StatusOr<Followed> followed = Followed::kNothing;
    // A local command may wake the wait; it stays in the mailbox. A peer's end shows within the wait.
    while (followed.ok() && *followed == Followed::kNothing) followed = Follow(absl::Seconds(1));
    ran = followed.status();
    if (ran.ok() && *followed == Followed::kLeft)
      ran = absl::AbortedError("rank 0 dissolved the group while it loaded");
  }
  if (ran.ok()) ran = channel_->communicator().Barrier();
  if (!ran.ok()) return StepFailure(ran);
  table_->RetireAll();
  ready_ = true;
  return std::nullopt;
}

absl::StatusOr<absl::Span<const float>> Shard::Lead(StepPlan plan) {
  if (absl::Status taken = TakeTurn(); !taken.ok()) return taken;
  const Busy busy(this);
  if (absl::Status published = Publish(plan); !published.ok()) return published;
  return RunPlan(plan);
}

absl::StatusOr<absl::Span<const float>> Shard::FetchRow(size_t i) {
  if (absl::Status taken = TakeTurn(); !taken.ok()) return taken;
  const Busy busy(this);
  return executor_->FetchRow(i);
}

absl::Status Shard::LeadOut() {
  StepPlan plan{.kind = StepPlan::Kind::kDissolve};
  return Publish(plan);
}

absl::Status Shard::Publish(StepPlan& plan) {
  plan.group_id = identity().group_id;
  plan.epoch = identity().epoch;
  plan.step = table_->last_step() + 1;
  if (channel_->plans() == nullptr) return absl::OkStatus();
  return channel_->plans()->Publish(plan.step, EncodePlan(plan));
}

absl::StatusOr<Shard::Followed> Shard::Follow(absl::Duration timeout) {
  absl::StatusOr<PlanQueue::Received> received = channel_->plans()->Next(timeout);
  if (!received.ok()) return received.status();
  if (received->kind != PlanQueue::Received::kMessage) return Followed::kNothing;
  absl::StatusOr<StepPlan> plan = DecodePlan(received->bytes);
  if (!plan.ok()) return plan.status();
  if (plan->step != received->step) {
    return absl::DataLossError(absl::StrCat("plan ", plan->step, " travelled as step ", received->step));
  }
  if (plan->kind == StepPlan::Kind::kDissolve) return Followed::kLeft;
  if (absl::Status taken = TakeTurn(); !taken.ok()) return taken;
  const Busy busy(this);
  absl::StatusOr<absl::Span<const float>> ran = RunPlan(*plan);
  if (!ran.ok()) return ran.status();
  return Followed::kStep;
}

absl::StatusOr<absl::Span<const float>> Shard::RunPlan(const StepPlan& plan) {
  absl::StatusOr<StepInput> input = table_->Apply(plan);
  if (!input.ok()) return input.status();
  return executor_->Run(*input);
}

}  // namespace tandem::worker
