#include "worker/engine/engine_loop.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLook{500};  // Between two looks at the peers while nothing is computed.
constexpr size_t kMostEpochs = 1024;
constexpr int kCommandsPerTurn = 256;  // So that a flood of commands does not stop the streams.

SteadyTime Now() { return std::chrono::steady_clock::now(); }

}  // namespace

EngineLoop::EngineLoop(Options options) : options_(std::move(options)) {
  thread_ = std::thread([this] {
    options_.on_thread_start();
    Run();
    std::lock_guard lock(mu_);
    stopped_ = true;
    ended_.notify_all();
  });
}

EngineLoop::~EngineLoop() {
  Post(Stop{"the worker ends"});
  thread_.join();
}

bool EngineLoop::WaitUntilStopped(milliseconds timeout) {
  std::unique_lock lock(mu_);
  return ended_.wait_for(lock, timeout, [this] { return stopped_; });
}

// ---- other threads --------------------------------------------------------------------------------------------------

bool EngineLoop::Post(Command command) {
  std::lock_guard lock(mu_);
  if (std::holds_alternative<AssignRequest>(command)) {
    if (queued_requests_ >= options_.most_queued) return false;
    ++queued_requests_;
  }
  if (const auto* abort = std::get_if<AbortGroup>(&command)) {
    if (reach_.group == abort->group) Interrupt(abort->reason);
  } else if (const auto* all = std::get_if<AbortEverything>(&command)) {
    Interrupt(all->reason);
  } else if (const auto* stop = std::get_if<Stop>(&command)) {
    // A step that runs is finished first; waiting for peers is not.
    if (!reach_.ready) Interrupt(stop->reason);
  }
  mailbox_.push_back(std::move(command));
  posted_.notify_one();
  if (reach_.channel && reach_.channel->plans() != nullptr) reach_.channel->plans()->WakeSelf();
  return true;
}

void EngineLoop::Interrupt(absl::string_view reason) {
  if (!reach_.group) return;
  if (!reach_.abort_reason) {
    reach_.abort_reason = std::string(reason);
    reach_.abort_at = Now();
  }
  cancel_join_ = true;
  if (reach_.channel) reach_.channel->Abort(reason);
}

milliseconds EngineLoop::AbortOverdue() const {
  std::lock_guard lock(mu_);
  if (!reach_.abort_reason) return milliseconds(0);
  return std::chrono::duration_cast<milliseconds>(Now() - reach_.abort_at);
}

std::string EngineLoop::Occupied() const {
  {
    std::lock_guard lock(mu_);
    if (reach_.group && !reach_.ready) return absl::StrCat(reach_.group->ToString(), " forms or loads here");
    if (queued_requests_ > 0) return "a request came";
  }
  for (const ShardStatus& status : Status()) {
    const uint32_t requests = status.running + status.waiting;
    if (requests > 0 || status.busy) return absl::StrCat(status.group.ToString(), " computes here");
  }
  return "";
}

std::vector<ShardStatus> EngineLoop::Status() const {
  std::lock_guard lock(status_mu_);
  if (!visible_) return {};
  ShardStatus status = visible_->status;
  status.progress = visible_->progress != nullptr ? visible_->progress->load() : 0;
  status.busy = visible_->busy->load();
  return {status};
}

std::vector<HeldRequest> EngineLoop::Held(const GroupRef& group) const {
  std::shared_ptr<RequestLog> log;
  {
    std::lock_guard lock(status_mu_);
    if (visible_ && visible_->status.group == group) log = visible_->log;
  }
  return log ? log->Held() : std::vector<HeldRequest>();
}

// ---- the engine thread ----------------------------------------------------------------------------------------------

void EngineLoop::Run() {
  while (!stopping_) {
    // One by one: an abort must find the order it ends in the mailbox or under way, not in between.
    milliseconds patience = Patience();
    for (int taken = 0; taken < kCommandsPerTurn && !stopping_; ++taken) {
      std::optional<Command> command = TakeCommand(patience);
      if (!command) break;
      std::visit([this](auto& c) { Handle(c); }, *command);
      patience = milliseconds(0);
    }
    if (shard_ && !stopping_) Advance();
  }
}

// How long the thread may sleep in the mailbox. A follower sleeps in the plan ring instead.
milliseconds EngineLoop::Patience() const {
  if (!shard_) return std::chrono::hours(1);
  if (leader_) return leader_->idle() ? kLook : milliseconds(0);
  return shard_->ready() ? milliseconds(0) : kLook;
}

std::optional<Command> EngineLoop::TakeCommand(milliseconds patience) {
  std::unique_lock lock(mu_);
  if (patience.count() > 0) posted_.wait_for(lock, patience, [this] { return !mailbox_.empty(); });
  if (mailbox_.empty()) return std::nullopt;
  Command command = std::move(mailbox_.front());
  mailbox_.pop_front();
  if (std::holds_alternative<AssignRequest>(command)) --queued_requests_;
  return command;
}

void EngineLoop::Advance() {
  absl::Status status;
  const SteadyTime now = Now();
  if (leader_ && now - tidied_ >= kLook) {
    leader_->Tidy(now);
    tidied_ = now;
  }
  if (leader_ && !leader_->idle()) {
    status = leader_->Step(now);
  } else if (leader_ || !shard_->ready()) {
    status = shard_->channel().Health();
  } else {
    absl::StatusOr<Shard::Followed> followed = shard_->Follow(absl::FromChrono(kLook));
    status = followed.status();
    if (status.ok() && *followed == Shard::Followed::kLeft) return Leave();
  }
  if (!status.ok()) return Fail(StepFailure(status));
  PublishStatus();
}

void EngineLoop::Handle(FormGroup& command) {
  const GroupIdentity& identity = command.identity;
  const GroupRef ref = RefOf(identity);
  if (shard_ && shard_->ref() == ref) return options_.report(GroupFormed{ref, shard_->rank()});  // Said twice.
  if (std::optional<GroupFailure> failure = CheckFormable(identity)) {
    return options_.report(GroupFailed{ref, identity.rank, *std::move(failure)});
  }
  {
    std::lock_guard lock(mu_);
    reach_ = {.group = ref};
    cancel_join_ = false;
    // What came in the meantime could not know that this group was about to form.
    for (const Command& later : mailbox_) {
      const auto* abort = std::get_if<AbortGroup>(&later);
      if (abort != nullptr && abort->group == ref) Interrupt(abort->reason);
      if (const auto* all = std::get_if<AbortEverything>(&later)) Interrupt(all->reason);
      if (const auto* stop = std::get_if<Stop>(&later)) Interrupt(stop->reason);
    }
  }
  absl::StatusOr<std::unique_ptr<GroupChannel>> channel = options_.join(identity, &cancel_join_);
  std::shared_ptr<GroupChannel> joined;
  std::optional<std::string> aborted;
  {
    std::lock_guard lock(mu_);
    aborted = reach_.abort_reason;
    if (channel.ok()) {
      joined = *std::move(channel);
      reach_.channel = joined;
      if (aborted) joined->Abort(*aborted);
    }
  }
  if (joined && !aborted) {
    shard_ = std::make_unique<Shard>(std::move(joined), &options_.services);
    {
      std::lock_guard lock(status_mu_);
      visible_ = {.status = {.group = ref, .rank = identity.rank, .size = identity.size}, .busy = &shard_->busy()};
    }
    LOG(INFO) << ref.ToString() << ": formed as rank " << identity.rank << " of " << identity.size;
    return options_.report(GroupFormed{ref, identity.rank});
  }
  GroupFailure failure{.reason = aborted ? FailureReason::kAborted : FailureReason::kBootstrap,
                       .message = aborted ? *aborted : std::string(channel.status().message())};
  LOG(WARNING) << ref.ToString() << ": not formed: " << failure.message;
  Drop();
  options_.report(GroupFailed{ref, identity.rank, std::move(failure)});
}

std::optional<GroupFailure> EngineLoop::CheckFormable(const GroupIdentity& identity) {
  if (identity.epoch.leader < leader_epoch_) {
    return GroupFailure{FailureReason::kStaleEpoch, absl::StrCat("the order is of leader epoch ", identity.epoch.leader,
                                                                 ", this worker obeys ", leader_epoch_)};
  }
  auto [it, first] = epochs_.try_emplace(identity.group_id, identity.epoch);
  if (!first && identity.epoch <= it->second) {
    return GroupFailure{FailureReason::kStaleEpoch,
                        absl::StrCat("epoch ", identity.epoch.ToString(), " of group ", identity.group_id,
                                     " is over, this worker has seen ", it->second.ToString())};
  }
  it->second = identity.epoch;
  // Group ids are never used twice and grow, so the lowest are the oldest.
  if (epochs_.size() > kMostEpochs) epochs_.erase(epochs_.begin());
  if (!shard_) return std::nullopt;
  if (shard_->ref().id != identity.group_id) {
    return GroupFailure{FailureReason::kBusy, absl::StrCat("this device is in ", shard_->ref().ToString())};
  }
  Fail({.reason = FailureReason::kStaleEpoch,
        .message = absl::StrCat("epoch ", identity.epoch.ToString(), " takes its place")});
  return std::nullopt;
}

void EngineLoop::Handle(LoadModel& command) {
  Shard* shard = Find(command.group);
  if (shard == nullptr || shard->loaded()) return;  // Its failure was reported; or said twice.
  if (std::optional<GroupFailure> failure = shard->Load(command.spec)) return Fail(*std::move(failure));
  {
    std::lock_guard lock(status_mu_);
    visible_->status.model = shard->spec().model;
    visible_->status.revision = shard->executor().facts().revision;
    visible_->status.kv_blocks = shard->kv_blocks();
    visible_->progress = &shard->executor().progress();
  }
  options_.report(ModelLoaded{shard->ref(), shard->rank(), shard->facts()});
  if (std::optional<GroupFailure> failure = shard->WarmUp()) return Fail(*std::move(failure));
  {
    std::lock_guard lock(mu_);
    reach_.ready = true;
  }
  if (shard->leads()) leader_ = std::make_unique<Leader>(shard, options_.report);
  {
    std::lock_guard lock(status_mu_);
    visible_->status.ready = true;
    if (leader_) visible_->log = leader_->log();
  }
  PublishStatus();
  LOG(INFO) << shard->ref().ToString() << ": rank " << shard->rank() << " is ready with " << shard->spec().model << ", "
            << shard->kv_blocks() << " KV blocks, " << shard->facts().numerics_id;
  if (!leader_) return;
  options_.report(GroupReady{.group = shard->ref(),
                             .kv_blocks = shard->kv_blocks(),
                             .max_sequences = shard->spec().max_sequences,
                             .max_model_len = shard->max_model_len(),
                             .shard = shard->facts()});
}

void EngineLoop::Handle(DissolveGroup& command) {
  Shard* shard = Find(command.group);
  if (shard == nullptr) return options_.report(GroupLeft{command.group, 0});  // Out already.
  if (leader_) {
    leader_->AbortAll("its group was dissolved");
    if (absl::Status told = shard->LeadOut(); !told.ok()) return Fail(StepFailure(told));
  } else if (shard->ready()) {
    return;  // Rank 0 says when, by the plan ring.
  }
  Leave();
}

void EngineLoop::Handle(AbortGroup& command) {
  if (Find(command.group) == nullptr) return options_.report(GroupLeft{command.group, 0});
  Fail({.reason = FailureReason::kAborted, .message = command.reason});
}

void EngineLoop::Handle(AssignRequest& command) {
  if (Leader* leader = FindLeader(command.group)) return leader->Assign(std::move(command.request));
  EndUnknown(command.group, command.request.id, Ended::How::kRefused);
}

void EngineLoop::Handle(AbortAttempt& command) {
  if (Leader* leader = FindLeader(command.group)) return leader->Abort(command.id, command.reason);
  EndUnknown(command.group, command.id, Ended::How::kAborted);
}

void EngineLoop::EndUnknown(const GroupRef& group, const AttemptId& id, Ended::How how) {
  Ended ended{.how = how, .message = absl::StrCat("this worker does not lead ", group.ToString())};
  options_.report(StepDone{.group = group, .updates = {{id, std::move(ended)}}});
}

void EngineLoop::Handle(AcknowledgeEnd& command) {
  if (!leader_) return;
  for (const AttemptId& id : command.ids) leader_->Acknowledge(id, Now(), retention_);
}

void EngineLoop::Handle(ReplayTokens& command) {
  if (leader_) leader_->Replay(command.id, command.from_index);
}

void EngineLoop::Handle(ReplayEverything&) {
  options_.report(ReplayBegins{});
  if (leader_) leader_->ReplayAll();
}

void EngineLoop::Handle(ObeyLeader& command) {
  leader_epoch_ = std::max(leader_epoch_, command.leader_epoch);
  retention_ = command.retention;
}

void EngineLoop::Handle(AbortEverything& command) {
  if (shard_) Fail({.reason = FailureReason::kAborted, .message = command.reason});
}

void EngineLoop::Handle(Stop& command) {
  if (shard_) Fail({.reason = FailureReason::kAborted, .message = command.reason});
  stopping_ = true;
}

Shard* EngineLoop::Find(const GroupRef& group) const {
  return shard_ && shard_->ref() == group ? shard_.get() : nullptr;
}

Leader* EngineLoop::FindLeader(const GroupRef& group) const { return Find(group) != nullptr ? leader_.get() : nullptr; }

void EngineLoop::Fail(GroupFailure failure) {
  {
    // Whoever aborted the channel from outside gave the true reason; what came of it here is only its echo.
    std::lock_guard lock(mu_);
    if (reach_.abort_reason) failure = {.reason = FailureReason::kAborted, .message = *reach_.abort_reason};
  }
  const GroupRef ref = shard_->ref();
  LOG(WARNING) << ref.ToString() << ": rank " << shard_->rank() << " leaves: " << Name(failure.reason) << ": "
               << failure.message;
  // First the report: of all ranks' reasons the scheduler should hear the cause before the echoes.
  options_.report(GroupFailed{ref, shard_->rank(), failure});
  shard_->channel().Abort(failure.message);
  Drop();
}

void EngineLoop::Leave() {
  GroupLeft left{shard_->ref(), shard_->rank()};
  LOG(INFO) << left.group.ToString() << ": rank " << left.rank << " left";
  Drop();
  options_.report(left);
}

void EngineLoop::Drop() {
  {
    std::lock_guard lock(status_mu_);
    visible_.reset();
  }
  {
    std::lock_guard lock(mu_);
    reach_ = {};
  }
  leader_.reset();
  shard_.reset();
}

void EngineLoop::PublishStatus() {
  std::lock_guard lock(status_mu_);
  visible_->status.steps = shard_->steps();
  if (leader_) leader_->FillStatus(visible_->status);
}

}  // namespace tandem::worker
