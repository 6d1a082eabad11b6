#include "scheduler/core/drain.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/drain_preview.h"
#include "scheduler/core/drain_report.h"
#include "scheduler/core/group.h"
#include "scheduler/core/health.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/liveness.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/quarantine.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/words.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

constexpr Duration kReportEvery = Seconds(5);

int RequestsOf(const ClusterState& state, const std::vector<GroupId>& groups) {
  int count = 0;
  for (GroupId id : groups) {
    if (const Group* group = state.Find(id)) count += static_cast<int>(group->requests.size());
  }
  return count;
}

bool Wants(const Drain& drain, GroupId group) {
  return std::find(drain.groups.begin(), drain.groups.end(), group) != drain.groups.end();
}

std::string Why(const ClusterState& state, const Drain& drain) {
  return absl::StrCat("drain of ", TargetOf(state, drain), drain.reason.empty() ? "" : ": ", drain.reason);
}

// The group takes nothing more. One that does not serve yet ends.
void CloseGroup(ClusterState& state, Group& group, const std::string& why, Actions& out) {
  if (!group.Serves()) return;
  if (group.state != GroupState::kReady) return AbortNow(state, group, Reason::kDraining, why, out);
  StopAdmitting(state, group, why, out);
}

// ---- make before break ----------------------------------------------------------------------------------------------

// Whether every drain that wants the group would rather keep it than lose the last one of its model.
bool IsProtected(const ClusterState& state, GroupId group) {
  return std::none_of(state.drains.begin(), state.drains.end(), [&](const auto& entry) {
    const Drain& drain = entry.second;
    return Wants(drain, group) && (drain.force || (drain.past_deadline && drain.on_deadline != OnDeadline::kWait));
  });
}

// How many of the groups of the model that a drain wants must go on serving.
int ToKeepOpen(const ClusterState& state, const Model& model, const std::vector<Group*>& open) {
  int ready = 0, coming = 0;
  for (GroupId id : model.groups) {
    const Group& group = *state.Find(id);
    if (group.CountsAsReplica()) ++(group.state == GroupState::kReady ? ready : coming);
  }
  const int missing = state.Wanted(model) - ready;
  const bool tried_again = WaitsToRetry(state, model) && !model.blocked;
  const int keep = std::clamp(tried_again ? missing : coming, 0, std::max(0, missing));
  const bool last = ready == 0 && keep == 0;
  return last && IsProtected(state, open.back()->id) ? 1 : keep;
}

// Groups whose replacement serves, or that get none, stop admitting.
void CloseReplaced(ClusterState& state, Actions& out) {
  std::set<GroupId> wanted;
  for (const auto& [id, drain] : state.drains) wanted.insert(drain.groups.begin(), drain.groups.end());
  std::map<ModelId, std::vector<Group*>> open;
  for (GroupId id : wanted) {
    Group* group = state.Find(id);
    if (group != nullptr && group->leaving && group->Serves()) open[group->model].push_back(group);
  }
  for (auto& [id, groups] : open) {
    const int keep = ToKeepOpen(state, state.At(id), groups);
    for (size_t i = 0; i + static_cast<size_t>(keep) < groups.size(); ++i) {
      const auto drain = std::find_if(state.drains.begin(), state.drains.end(),
                                      [&](const auto& entry) { return Wants(entry.second, groups[i]->id); });
      CloseGroup(state, *groups[i], Why(state, drain->second), out);
    }
  }
}

// ---- the record -----------------------------------------------------------------------------------------------------

void Report(ClusterState& state, Drain& drain, Actions& out) {
  const Duration left{std::max<int64_t>(0, (drain.deadline - state.now).us)};
  const bool overdue = drain.past_deadline && drain.on_deadline == OnDeadline::kWait;
  drain.requests_at_start = std::max(drain.requests_at_start, drain.requests_left);  // it served on meanwhile
  drain.said = DescribeDrain(state, drain, /*with_times=*/false);
  out.push_back(ReportDrain{drain.id, DescribeDrain(state, drain, /*with_times=*/true), drain.requests_left, left,
                            overdue, false, Reason::kNone});
}

void Arm(ClusterState& state, Drain& drain) {
  const Instant regular = state.now + kReportEvery;
  state.SetTimer(drain.next_report,
                 drain.past_deadline ? regular : std::min(regular, std::max(drain.deadline, state.now)),
                 TimerKind::kDrain, drain.id.value);
}

void Finish(ClusterState& state, Drain& drain, Reason refused, std::string message, Actions& out) {
  state.SetTimer(drain.next_report, kNever, TimerKind::kDrain, drain.id.value);
  KeepEnded(drain.id, refused, message, out);
  out.push_back(ReportDrain{drain.id, std::move(message), drain.requests_left, {}, false, true, refused});
  state.drains.erase(drain.id);
}

// The deadline came: what still runs is moved, or aborted by name. Either way the engine says when it has stopped.
void EndRequests(ClusterState& state, Drain& drain, Actions& out) {
  const std::string why = Why(state, drain);
  const std::vector<GroupId> groups = drain.groups;
  for (GroupId id : groups) {
    Group* group = state.Find(id);
    if (group == nullptr || !group->InService()) continue;
    CloseGroup(state, *group, why, out);
    if (group->requests.empty()) continue;
    const std::vector<Serial> serials(group->requests.begin(), group->requests.end());
    for (Serial serial : serials) {
      Request& request = state.At(serial);
      AbortCurrent(state, request, "drain deadline", out);
      if (drain.on_deadline != OnDeadline::kAbort || request.told || request.stopped) continue;
      Fail(state, request, Reason::kDrainAborted,
           absl::StrCat(Name(id), " was drained", drain.reason.empty() ? "" : ": ", drain.reason,
                        "; the drain's deadline passed"),
           out);
    }
    state.SetTimer(group->deadline, state.now + state.options.leave_deadline, TimerKind::kGroup, id.value);
  }
}

// ---- devices --------------------------------------------------------------------------------------------------------

// Drained devices without groups: their workers become new processes that hold nothing.
void ParkEmptied(ClusterState& state, Actions& out) {
  for (DeviceId id : std::exchange(state.emptied, {})) {
    Device& device = state.At(id);
    if (!state.settled || !device.drain_wanted || !device.attached || !device.Free()) continue;
    if (device.parked || device.parking) continue;
    device.parking = true;
    device.leave_deadline = state.now + state.options.leave_deadline;
    ArmLiveness(state, device);
    out.push_back(ParkWorker{id, device.incarnation});
  }
}

// Nothing of ours is on it: no group, and no process that holds a context.
bool IsEmpty(const Device& device) { return device.Free() && (device.parked || device.state == DeviceState::kLost); }

// The group serves again, unless something else still wants it gone.
void TakeBack(ClusterState& state, Group& group, Actions& out) {
  if (!group.leaving || IsDrained(state, group)) return;
  group.leaving = false;
  if (!group.InService()) return;
  if (group.state != GroupState::kDraining) {
    out.push_back(Tell{Name(group.id), "stays: the drain was undone"});
  } else if (!group.retiring) {
    Reopen(state, group, "the drain was undone", out);
  }
}

}  // namespace

void StopAdmitting(ClusterState& state, Group& group, const std::string& why, Actions& out) {
  group.state = GroupState::kDraining;
  group.reason = why;
  Reindex(state, group);
  state.place_wanted = true;
  out.push_back(Tell{
      Name(group.id),
      absl::StrCat("DRAINING: ", why, "; ", Count(static_cast<int64_t>(group.requests.size()), "request"), " to end")});
}

void Reopen(ClusterState& state, Group& group, const std::string& why, Actions& out) {
  group.state = GroupState::kReady;
  group.reason.clear();
  state.SetTimer(group.deadline, kNever, TimerKind::kGroup, group.id.value);
  out.push_back(Tell{Name(group.id), absl::StrCat("READY: ", why)});
  if (Reindex(state, group)) state.helped.insert(group.model);
}

bool IsDrained(const ClusterState& state, const Group& group) {
  for (const Member& member : group.members) {
    if (state.At(member.device).drain_wanted) return true;
  }
  return std::any_of(state.drains.begin(), state.drains.end(), [&](const auto& entry) {
    const Drain& drain = entry.second;
    return drain.devices.empty() && std::find(drain.groups.begin(), drain.groups.end(), group.id) != drain.groups.end();
  });
}

void Handle(ClusterState& state, const CordonRequested& event, Actions& out) {
  Device* device = state.Find(event.device);
  if (device == nullptr) return;
  device->reason = event.reason;
  KeepSoon(state, *device);
  state.place_wanted = true;
  if (std::exchange(device->cordoned, true)) return;
  out.push_back(Tell{Name(state, device->id), absl::StrCat("cordoned: ", event.reason)});
}

void Handle(ClusterState& state, const UncordonRequested& event, Actions& out) {
  Device* device = state.Find(event.device);
  if (device == nullptr) return;
  Release(state, *device, "by an operator", out);
  ForgetWithdrawal(state, *device);
  if (!device->cordoned) return;
  if (device->drain_wanted) {
    out.push_back(Tell{Name(state, device->id), "stays cordoned while it is drained; undrain it"});
    return;
  }
  device->cordoned = false;
  device->reason.clear();
  KeepSoon(state, *device);
  state.place_wanted = true;
  out.push_back(Tell{Name(state, device->id), "uncordoned"});
}

void Handle(ClusterState& state, const DrainRequested& event, Actions& out) {
  if (state.drains.contains(event.operation)) return;  // said twice
  if (!state.settled) return Defer(state, event, out);
  DrainPreview preview = PreviewDrain(state, event);
  if (preview.refused != Reason::kNone) {
    KeepEnded(event.operation, preview.refused, preview.why, out);
    out.push_back(ReportDrain{event.operation, std::move(preview.why), 0, {}, false, true, preview.refused});
    return;
  }
  Drain drain;
  drain.id = event.operation;
  drain.devices = preview.devices;
  drain.groups = preview.groups;
  drain.reason = event.reason;
  drain.on_deadline = event.on_deadline;
  drain.force = event.force;
  drain.deadline = state.now + (event.deadline.us > 0 ? event.deadline : state.options.drain_deadline);
  drain.requests_at_start = preview.requests;
  for (DeviceId id : drain.devices) {
    Device& device = state.At(id);
    if (!event.reason.empty() || !device.drain_wanted) device.reason = event.reason;
    device.cordoned = true;
    device.drain_wanted = true;
    RefreshState(device);
    KeepSoon(state, device);
    state.emptied.push_back(id);
    out.push_back(Tell{Name(state, id), event.reason.empty() ? "drain" : absl::StrCat("drain: ", event.reason)});
  }
  Drain& added = state.drains.emplace(event.operation, std::move(drain)).first->second;
  KeepRunning(state, added, out);
  Arm(state, added);
  for (GroupId id : preview.groups) {
    Group& group = *state.Find(id);
    group.leaving = true;
    if (group.state != GroupState::kReady) CloseGroup(state, group, preview.why, out);
  }
  state.place_wanted = true;
  state.drains_touched = true;
}

void Handle(ClusterState& state, const UndrainRequested& event, Actions& out) {
  WithdrawDeferred(state, event.device, out);
  Device* device = state.Find(event.device);
  if (device == nullptr) return;
  std::vector<OperationId> undone;
  std::vector<GroupId> groups = device->groups;
  for (auto& [id, drain] : state.drains) {
    const bool of_group = drain.devices.empty() && std::any_of(groups.begin(), groups.end(),
                                                               [&drain = drain](GroupId g) { return Wants(drain, g); });
    if (of_group || (std::erase(drain.devices, event.device) > 0 && drain.devices.empty())) undone.push_back(id);
    if (of_group || drain.devices.empty()) continue;
    drain.groups = GroupsOn(state, drain.devices);
    KeepRunning(state, drain, out);
  }
  if (!device->drain_wanted && undone.empty()) return;
  if (device->drain_wanted) {
    device->drain_wanted = false;
    ForgetWithdrawal(state, *device);
    KeepSoon(state, *device);
    device->cordoned = false;
    device->parked = false;  // a parked worker is a fresh one
    device->reason.clear();
    RefreshState(*device);
    out.push_back(Tell{Name(state, device->id), "undrained"});
  }
  for (OperationId id : undone) {
    const std::vector<GroupId>& more = state.drains.at(id).groups;
    groups.insert(groups.end(), more.begin(), more.end());
    Finish(state, state.drains.at(id), Reason::kCancelled, "undone by undrain", out);
  }
  std::set<ModelId> models;
  for (GroupId id : std::set<GroupId>(groups.begin(), groups.end())) {
    Group* group = state.Find(id);
    if (group == nullptr) continue;
    models.insert(group->model);
    TakeBack(state, *group, out);
  }
  for (ModelId id : models) RetireSurplus(state, state.At(id), "the drain that it was formed for was undone", out);
  state.place_wanted = true;
  state.drains_touched = true;
}

void UpdateDrains(ClusterState& state, Actions& out) {
  state.drains_touched = false;
  ParkEmptied(state, out);
  for (auto& [id, drain] : state.drains) {
    if (!drain.devices.empty()) drain.groups = GroupsOn(state, drain.devices);
  }
  if (state.settled) CloseReplaced(state, out);
  std::vector<OperationId> ids;
  for (const auto& [id, drain] : state.drains) ids.push_back(id);
  for (OperationId id : ids) {
    Drain& drain = state.drains.at(id);
    const std::vector<GroupId> groups = drain.groups;
    for (GroupId group_id : groups) {
      Group* group = state.Find(group_id);
      const bool closed = group != nullptr && group->InService() && group->state == GroupState::kDraining;
      if (closed && group->requests.empty()) BeginDissolve(state, *group, group->reason, out);
    }
    if (!state.settled) continue;  // its groups and devices may yet come back
    const std::string target = TargetOf(state, drain);
    std::erase_if(drain.groups, [&](GroupId group_id) { return !state.groups.contains(group_id); });
    drain.requests_left = RequestsOf(state, drain.groups);
    const bool empty =
        std::all_of(drain.devices.begin(), drain.devices.end(), [&](DeviceId d) { return IsEmpty(state.At(d)); });
    if (drain.groups.empty() && empty) {
      Finish(state, drain, Reason::kNone, DescribeEnd(state, drain, target), out);
    } else if (DescribeDrain(state, drain, /*with_times=*/false) != drain.said) {
      Report(state, drain, out);
    }
  }
}

void OnDrainTimer(ClusterState& state, Drain& drain, Actions& out) {
  drain.next_report = kNever;
  if (!drain.past_deadline && state.now >= drain.deadline) {
    drain.past_deadline = true;
    if (drain.on_deadline != OnDeadline::kWait) EndRequests(state, drain, out);
  }
  drain.said.clear();  // reported when all that this moment brings has been done
  state.drains_touched = true;
  Arm(state, drain);
}

}  // namespace tandem::core
