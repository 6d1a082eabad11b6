#include "scheduler/core/group.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/check.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/quarantine.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/words.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

void SetDeadline(ClusterState& state, Group& group, Instant at) {
  state.SetTimer(group.deadline, at, TimerKind::kGroup, group.id.value);
}

std::vector<DeviceId> Inside(const Group& group) {
  std::vector<DeviceId> devices;
  for (const Member& member : group.members) {
    if (!member.out) devices.push_back(member.device);
  }
  return devices;
}

Member* FindMember(Group& group, DeviceId device) {
  const auto it = std::find_if(group.members.begin(), group.members.end(),
                               [&](const Member& member) { return member.device == device; });
  return it == group.members.end() ? nullptr : &*it;
}

// The group and rank that a worker's report means; null and counted when it is about a group or epoch that is no more.
struct Place {
  Group* group = nullptr;
  Member* member = nullptr;
};
template <typename Event>
Place Current(ClusterState& state, const Event& event) {
  Group* group = state.Find(event.group);
  Member* member = group == nullptr || group->epoch != event.epoch ? nullptr : FindMember(*group, event.device);
  if (member == nullptr || member->out) {
    ++state.counters.stale_groups;
    return {};
  }
  return {group, member};
}

// The rank left a group of an earlier life. False: it was no leftover.
bool LeaveLeftover(ClusterState& state, DeviceId id, GroupId group, GroupEpoch epoch) {
  Device* device = state.Find(id);
  if (device == nullptr) return false;
  const auto it = std::find(device->leftovers.begin(), device->leftovers.end(), Leftover{group, epoch});
  if (it == device->leftovers.end()) return false;
  device->leftovers.erase(it);
  DeviceFreed(state, *device);
  return true;
}

void TakeOut(ClusterState& state, Group& group, Member& member) {
  member.out = true;
  Device& device = state.At(member.device);
  std::erase(device.groups, group.id);
  DeviceFreed(state, device);
}

// All ranks are out: the end of the group.
bool DissolveIfEmpty(ClusterState& state, Group& group, Actions& out) {
  if (!Inside(group).empty()) return false;
  SetDeadline(state, group, kNever);
  group.state = GroupState::kDissolved;
  group.ended_at = state.now;
  std::erase(state.At(group.model).groups, group.id);
  state.At(group.model).prefixes.ForgetStored(group.id);
  state.place_wanted = true;
  state.drains_touched = true;
  out.push_back(Tell{Name(group.id), absl::StrCat("DISSOLVED: ", group.reason)});
  state.Remember(group);
  return true;
}

// A failure that another try would only repeat.
Reason Permanent(GroupFailure failure) {
  switch (failure) {
    case GroupFailure::kModelUnusable:
      return Reason::kModelUnusable;
    case GroupFailure::kModelMismatch:
      return Reason::kModelMismatch;
    case GroupFailure::kNeverFits:
      return Reason::kNeverFits;
    default:
      return Reason::kNone;
  }
}

// The rank's own device failed, as far as can be told: a meeting that failed says nothing of who did not come.
bool IsOwnFault(const Group& group, GroupFailure failure) {
  if (failure == GroupFailure::kEngineFault) return true;
  const bool meeting = failure == GroupFailure::kBootstrap || failure == GroupFailure::kCommunicator;
  return meeting && group.members.size() == 1;
}

// A group of the model that comes may be what others wait for before they leave.
bool MayReplace(const ClusterState& state, const Model& model) {
  return !state.drains.empty() || IsRolling(state, model);
}

const char* Word(GroupFailure failure) {
  static constexpr const char* kWords[] = {"bootstrap failed", "model unusable", "model mismatch",      "does not fit",
                                           "no memory now",    "peer lost",      "communicator failed", "engine fault",
                                           "aborted",          "stale epoch",    "device busy"};
  return kWords[static_cast<int>(failure)];
}

}  // namespace

void OpenAccount(ClusterState& state, Group& group) {
  group.free_blocks = group.kv_blocks;
  group.kv.capacity = {int64_t{group.kv_blocks} * group.block_tokens};
  group.kv.limit = {static_cast<int64_t>(static_cast<double>(group.kv.capacity.value) * state.options.overcommit)};
  group.ready_at = state.now;
  group.state = GroupState::kReady;
  state.At(group.model).pace.Forget();
  for (Member& member : group.members) member.progress_at = member.moved_at = state.now;
  group.steps_at = state.now;
  if (Reindex(state, group)) state.helped.insert(group.model);
}

void StartGroup(ClusterState& state, Model& model, const PlacementReport& report, Actions& out) {
  CORE_CHECK(report.verdict == Verdict::kPlaced && !report.chosen.empty());
  ++state.last_group;
  Group group;
  group.id = {state.leader_epoch << 32 | state.last_group};
  group.epoch = {state.leader_epoch, state.last_group};
  group.model = model.id;
  group.why = report.sentence;
  group.kv_min = report.kv_min;
  group.kv_target = report.kv_target;
  group.created = state.now;
  group.deployment = DeploymentOf(model.spec);
  for (DeviceId id : report.chosen) {
    Member member;
    member.device = id;
    const int rank = static_cast<int>(group.members.size());
    member.estimated = EstimatedStatic(model.spec, report.tensor_parallel, rank, state.At(id).spec.kind);
    member.planned = PlannedStatic(model, report.tensor_parallel, rank, state.At(id).spec.kind);
    group.members.push_back(member);
    state.At(id).groups.push_back(group.id);
  }
  model.groups.push_back(group.id);
  model.retry_at = kNever;
  Group& added = state.AddGroup(std::move(group));
  state.drains_touched |= MayReplace(state, model);
  SetDeadline(state, added, state.now + state.options.form_deadline);
  out.push_back(Tell{Name(added.id), absl::StrCat("FORMING: ", added.why)});
  out.push_back(FormGroup{added.id, added.epoch, model.id, report.chosen, state.options.form_deadline});
}

void Handle(ClusterState& state, const GroupFormed& event, Actions& out) {
  const auto [group, member] = Current(state, event);
  if (group == nullptr) return;
  member->formed = true;
  if (group->state != GroupState::kForming || !group->InService()) return;
  if (!std::all_of(group->members.begin(), group->members.end(), [](const Member& m) { return m.formed; })) return;
  group->state = GroupState::kLoading;
  state.drains_touched |= MayReplace(state, state.At(group->model));
  SetDeadline(state, *group, state.now + state.options.load_deadline);
  for (Member& rank : group->members) rank.held_before = state.At(rank.device).memory_process;
  out.push_back(Tell{Name(group->id), "LOADING: all ranks formed"});
  out.push_back(LoadModel{group->id, group->epoch, group->model, DevicesOf(*group), group->kv_min, group->kv_target,
                          state.options.load_deadline});
}

void Handle(ClusterState& state, const ModelLoaded& event, Actions&) {
  const auto [group, member] = Current(state, event);
  if (group == nullptr) return;
  member->loaded = true;
  state.At(member->device).uncounted = true;
  TakeMeasurement(state, *group, *member, event.static_bytes);
}

void Handle(ClusterState& state, const GroupReady& event, Actions& out) {
  const auto [group, member] = Current(state, event);
  if (group == nullptr || group->state != GroupState::kLoading || !group->InService()) return;
  if (member != &group->members.front()) return;  // rank 0 speaks for all
  Model& model = state.At(group->model);
  if (event.kv_blocks < 1 || event.block_tokens < 1 || event.max_sequences < 1) {
    return AbortNow(state, *group, Reason::kEngineFault,
                    absl::StrCat("reported ready with ", event.kv_blocks, " blocks of ", event.block_tokens,
                                 " tokens and ", event.max_sequences, " sequences"),
                    out);
  }
  group->kv_blocks = event.kv_blocks;
  group->block_tokens = event.block_tokens;
  group->max_sequences = event.max_sequences;
  group->max_model_len = event.max_model_len;
  group->kv_bytes = event.kv_bytes;
  group->numerics_id = event.numerics_id;
  SetDeadline(state, *group, kNever);
  OpenAccount(state, *group);
  state.drains_touched |= MayReplace(state, model);
  model.back_off = {};
  state.place_wanted |= state.load_awaited;
  out.push_back(Tell{Name(group->id), absl::StrCat("READY: ", group->kv_blocks, " blocks, ", group->kv.capacity.value,
                                                   " tokens of KV after ", Words(state.now - group->created))});
}

void BeginDissolve(ClusterState& state, Group& group, const std::string& why, Actions& out) {
  CORE_CHECK(group.requests.empty() && group.InService(), "group ", group.id.value);
  group.ending = Ending::kDissolving;
  group.state = GroupState::kDraining;
  group.reason = why;
  Reindex(state, group);
  SetDeadline(state, group, state.now + state.options.leave_deadline);
  out.push_back(Tell{Name(group.id), absl::StrCat("dissolving: ", why)});
  out.push_back(DissolveGroup{group.id, group.epoch, Inside(group)});
}

void AbortNow(ClusterState& state, Group& group, Reason reason, const std::string& why, Actions& out) {
  const bool again = group.ending == Ending::kAborting;
  group.ending = Ending::kAborting;
  if (!again) {
    group.state = GroupState::kDraining;
    group.reason = why;
    group.end_reason = reason;
    Reindex(state, group);
    state.drains_touched = true;
    out.push_back(Tell{Name(group.id), absl::StrCat("aborted: ", why)});
    const std::string told = absl::StrCat(Name(group.id), " was lost: ", why);
    const bool died = reason == Reason::kWorkerLost || reason == Reason::kEngineFault;
    while (!group.requests.empty()) LoseAttempt(state, state.At(*group.requests.begin()), died, told, out);
    if (reason == Reason::kDraining || group.successor) {
      state.place_wanted = true;  // as an operator wishes, or without loss: nothing is wrong with the model
    } else {
      BackOff(state, state.At(group.model));
    }
  }
  if (DissolveIfEmpty(state, group, out)) return;
  std::vector<DeviceId> reachable;
  for (DeviceId id : Inside(group)) {
    if (state.At(id).attached) reachable.push_back(id);
  }
  if (again) return;
  SetDeadline(state, group, state.now + state.options.leave_deadline);
  if (!reachable.empty()) out.push_back(AbortGroup{group.id, group.epoch, std::move(reachable), why});
}

void MemberGone(ClusterState& state, Group& group, DeviceId device, const std::string& why, Actions& out) {
  Member* member = FindMember(group, device);
  CORE_CHECK(member != nullptr && !member->out, "group ", group.id.value, " device ", device.value);
  TakeOut(state, group, *member);
  if (group.ending != Ending::kNo) {
    DissolveIfEmpty(state, group, out);
    return;
  }
  AbortNow(state, group, Reason::kWorkerLost, why, out);
}

void Handle(ClusterState& state, const GroupFailed& event, Actions& out) {
  if (LeaveLeftover(state, event.device, event.group, event.epoch)) return;
  const auto [group, member] = Current(state, event);
  if (group == nullptr) return;
  const std::string what = absl::StrCat(Word(event.failure), event.message.empty() ? "" : ": ", event.message);
  const std::string why = absl::StrCat(Name(state, event.device), ": ", what);
  state.counters.communicator_errors += event.failure == GroupFailure::kCommunicator;
  const Reason permanent = Permanent(event.failure);
  Model& model = state.At(group->model);
  const bool needed = !group->outdated && !group->successor && !model.undeployed;
  if (permanent != Reason::kNone && group->InService() && needed) {
    model.blocked = true;
    model.refused = permanent;
    model.refused_why = why;
    out.push_back(Tell{Name(model), absl::StrCat("not tried again before a worker changes: ", why)});
    const bool served = std::any_of(model.groups.begin(), model.groups.end(),
                                    [&](GroupId id) { return id != event.group && state.Find(id)->Serves(); });
    if (!served) FailQueue(state, model, permanent, why, out);
  }
  const bool first = group->ending == Ending::kNo;
  if (first && IsOwnFault(*group, event.failure)) CountFailure(state, state.At(event.device), what, out);
  TakeOut(state, *group, *member);
  if (!first) {
    DissolveIfEmpty(state, *group, out);
    return;
  }
  Reason reason = Reason::kWorkerLost;
  if (event.failure == GroupFailure::kEngineFault) reason = Reason::kEngineFault;
  if (event.failure == GroupFailure::kAborted) reason = Reason::kCancelled;  // in order: its worker was told to stop
  AbortNow(state, *group, reason, why, out);
}

void Handle(ClusterState& state, const GroupLeft& event, Actions& out) {
  if (LeaveLeftover(state, event.device, event.group, event.epoch)) return;
  const auto [group, member] = Current(state, event);
  if (group == nullptr) return;
  TakeOut(state, *group, *member);
  if (group->ending != Ending::kNo) {
    DissolveIfEmpty(state, *group, out);
    return;
  }
  AbortNow(state, *group, Reason::kWorkerLost, absl::StrCat(Name(state, event.device), " left without being told to"),
           out);
}

void OnGroupDeadline(ClusterState& state, Group& group, Actions& out) {
  group.deadline = kNever;
  if (group.ending == Ending::kNo && group.state != GroupState::kDraining) {
    std::vector<DeviceId> late;
    const bool forming = group.state == GroupState::kForming;
    for (const Member& member : group.members) {
      if (!(forming ? member.formed : member.loaded)) late.push_back(member.device);
    }
    if (late.size() < group.members.size() || late.size() == 1) {
      for (DeviceId id : late)
        CountFailure(state, state.At(id), absl::StrCat(forming ? "did not form " : "did not load ", Name(group.id)),
                     out);
    }
    const Duration limit = forming ? state.options.form_deadline : state.options.load_deadline;
    return AbortNow(state, group, Reason::kWorkerLost,
                    absl::StrCat(forming ? "did not form in " : "did not load in ", Words(limit),
                                 ", nothing heard from ", late.empty() ? "rank 0 after loading" : List(state, late)),
                    out);
  }
  if (group.ending == Ending::kNo) {  // drained by force: its engine does not end what it was told to abort
    return AbortNow(state, group, Reason::kDrainAborted, "requests did not end when aborted", out);
  }
  const std::string why = absl::StrCat("did not leave ", Name(group.id), " in ", Words(state.options.leave_deadline));
  for (DeviceId id : Inside(group)) LoseDevice(state, state.At(id), LossCause::kDisobeyed, why, /*drop=*/true, out);
}

}  // namespace tandem::core
