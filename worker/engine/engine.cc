#include "worker/engine/engine.h"

#include <glog/logging.h>

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLook{500};  // Between two looks at the peers while nothing is computed.
constexpr size_t kMostEpochs = 1024;

std::string NotLed(const GroupRef& group) { return absl::StrCat("this worker does not lead ", group.ToString()); }

}  // namespace

Engine::Engine(Options options, AbortReach* reach, ShardWindow* window)
    : options_(std::move(options)), reach_(reach), window_(window) {}

void Engine::Handle(Command command) {
  std::visit([this](auto& c) { On(c); }, command);
}

milliseconds Engine::Patience() const {
  if (!shard_) return std::chrono::hours(1);
  if (leader_) return leader_->idle() ? kLook : milliseconds(0);
  return shard_->ready() ? milliseconds(0) : kLook;
}

void Engine::Advance() {
  if (!shard_ || stopped_) return;
  absl::Status status;
  const SteadyTime now = options_.clock();
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
  window_->Refresh(*shard_, leader_.get());
}

void Engine::On(FormGroup& command) {
  const GroupIdentity& identity = command.identity;
  const GroupRef ref = RefOf(identity);
  if (shard_ && shard_->ref() == ref) return options_.report(GroupFormed{ref, shard_->rank()});  // Said twice.
  if (std::optional<GroupFailure> failure = CheckFormable(identity)) {
    return options_.report(GroupFailed{ref, identity.rank, *std::move(failure)});
  }
  reach_->Enter(ref);
  options_.on_entering();
  absl::StatusOr<std::unique_ptr<GroupChannel>> channel = options_.join(identity, reach_->cancelled());
  std::shared_ptr<GroupChannel> joined;
  if (channel.ok()) {
    joined = *std::move(channel);
    reach_->Reached(joined);
  }
  const std::optional<std::string> aborted = reach_->reason();
  if (joined && !aborted) {
    shard_ = std::make_unique<Shard>(std::move(joined), &options_.services);
    window_->Open(*shard_);
    LOG(INFO) << ref.ToString() << ": formed as rank " << identity.rank << " of " << identity.size;
    return options_.report(GroupFormed{ref, identity.rank});
  }
  GroupFailure failure{.reason = aborted ? FailureReason::kAborted : FailureReason::kBootstrap,
                       .message = aborted ? *aborted : std::string(channel.status().message())};
  LOG(WARNING) << ref.ToString() << ": not formed: " << failure.message;
  Drop();
  options_.report(GroupFailed{ref, identity.rank, std::move(failure)});
}

std::optional<GroupFailure> Engine::CheckFormable(const GroupIdentity& identity) {
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

void Engine::On(LoadModel& command) {
  Shard* shard = Find(command.group);
  if (shard == nullptr || shard->loaded()) return;  // Its failure was reported; or said twice.
  if (std::optional<GroupFailure> failure = shard->Load(command.spec)) return Fail(*std::move(failure));
  window_->ShowModel(*shard);
  options_.report(ModelLoaded{shard->ref(), shard->rank(), shard->facts()});
  if (std::optional<GroupFailure> failure = shard->WarmUp()) return Fail(*std::move(failure));
  reach_->Ready();
  if (shard->leads())
    leader_ = std::make_unique<Leader>(
        shard, [this](Report report) { Tell(std::move(report)); }, options_.clock);
  window_->ShowReady(leader_.get());
  window_->Refresh(*shard, leader_.get());
  LOG(INFO) << shard->ref().ToString() << ": rank " << shard->rank() << " is ready with " << shard->spec().model << ", "
            << shard->kv_blocks() << " KV blocks, " << shard->facts().numerics_id;
  if (!leader_) return;
  options_.report(GroupReady{.group = shard->ref(),
                             .kv_blocks = shard->kv_blocks(),
                             .max_sequences = shard->spec().max_sequences,
                             .max_model_len = shard->max_model_len(),
                             .shard = shard->facts()});
}

void Engine::On(DissolveGroup& command) {
  Shard* shard = Find(command.group);
  if (shard == nullptr) return options_.report(GroupLeft{command.group, 0});  // Out already.
  if (leader_) {
    leader_->AbortAll("its group was dissolved");
    if (absl::Status told = shard->LeadOut(); !told.ok()) return Fail(StepFailure(told));
  } else if (shard->ready()) {
    return;  // Rank 0 says when, by the queue of plans.
  }
  Leave();
}

void Engine::On(AbortGroup& command) {
  if (Find(command.group) == nullptr) return options_.report(GroupLeft{command.group, 0});
  Fail({.reason = FailureReason::kAborted, .message = command.reason});
}

void Engine::On(AssignRequest& command) {
  if (const uint64_t leader = command.request.id.attempt.leader; leader < leader_epoch_) {
    return EndUntaken(command.group, command.request.id, Ended::How::kRefused,
                      absl::StrCat("the order is of leader epoch ", leader, ", this worker obeys ", leader_epoch_));
  }
  if (Leader* leader = FindLeader(command.group)) return leader->Assign(std::move(command.request));
  EndUntaken(command.group, command.request.id, Ended::How::kRefused, NotLed(command.group));
}

void Engine::On(AbortAttempt& command) {
  if (Leader* leader = FindLeader(command.group)) return leader->Abort(command.id, command.reason);
  EndUntaken(command.group, command.id, Ended::How::kAborted, NotLed(command.group));
}

void Engine::EndUntaken(const GroupRef& group, const AttemptId& id, Ended::How how, std::string why) {
  Ended ended{.how = how, .message = std::move(why)};
  Tell(StepDone{.group = group, .updates = {{id, std::move(ended)}}});
}

void Engine::On(AcknowledgeEnd& command) {
  if (!leader_) return;
  for (const AttemptId& id : command.ids) leader_->Acknowledge(id, options_.clock(), retention_);
}

void Engine::On(ReplayEverything& command) {
  line_ = command.line;
  if (leader_) leader_->ReplayAll(leader_epoch_);
}

void Engine::On(ObeyLeader& command) {
  leader_epoch_ = std::max(leader_epoch_, command.leader_epoch);
  retention_ = command.retention;
}

void Engine::On(AbortEverything& command) {
  if (shard_) Fail({.reason = FailureReason::kAborted, .message = command.reason});
}

void Engine::On(Stop& command) {
  if (shard_) Fail({.reason = FailureReason::kAborted, .message = command.reason});
  stopped_ = true;
}

Shard* Engine::Find(const GroupRef& group) const { return shard_ && shard_->ref() == group ? shard_.get() : nullptr; }

Leader* Engine::FindLeader(const GroupRef& group) const { return Find(group) != nullptr ? leader_.get() : nullptr; }

void Engine::Tell(Report report) {
  if (auto* step = std::get_if<StepDone>(&report)) step->line = line_;
  options_.report(std::move(report));
}

void Engine::Fail(GroupFailure failure) {
  // Whoever aborted the channel from outside gave the true reason; what came of it here is only its echo.
  if (std::optional<std::string> aborted = reach_->reason()) {
    failure = {.reason = FailureReason::kAborted, .message = *std::move(aborted)};
  }
  const GroupRef ref = shard_->ref();
  LOG(WARNING) << ref.ToString() << ": rank " << shard_->rank() << " leaves: " << Name(failure.reason) << ": "
               << failure.message;
  window_->Close();
  // First the report: of all ranks' reasons the scheduler should hear the cause before the echoes.
  options_.report(GroupFailed{ref, shard_->rank(), failure});
  shard_->channel().Abort(failure.message);
  Drop();
}

void Engine::Leave() {
  GroupLeft left{shard_->ref(), shard_->rank()};
  LOG(INFO) << left.group.ToString() << ": rank " << left.rank << " left";
  Drop();
  options_.report(left);
}

void Engine::Drop() {
  window_->Close();
  reach_->Clear();
  leader_.reset();
  shard_.reset();
}

}  // namespace tandem::worker
