#include "scheduler/core/drain.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/group.h"
#include "scheduler/core/kept.h"
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

// The live groups on the devices, each once.
std::vector<GroupId> GroupsOn(const ClusterState& state, const std::vector<DeviceId>& devices) {
  std::set<GroupId> groups;
  for (DeviceId id : devices) groups.insert(state.At(id).groups.begin(), state.At(id).groups.end());
  return {groups.begin(), groups.end()};
}

// Names a model that would be without a ready replica if these groups left; null when there is none.
const Model* WouldLoseLast(const ClusterState& state, const std::vector<GroupId>& leaving) {
  for (GroupId id : leaving) {
    const Group& group = *state.Find(id);
    if (group.state != GroupState::kReady || !group.InService()) continue;
    const Model& model = state.At(group.model);
    const bool other = std::any_of(model.groups.begin(), model.groups.end(), [&](GroupId other_id) {
      const Group& candidate = *state.Find(other_id);
      return candidate.state == GroupState::kReady && candidate.InService() &&
             std::find(leaving.begin(), leaving.end(), other_id) == leaving.end();
    });
    if (!other) return &model;
  }
  return nullptr;
}

void CloseGroup(ClusterState& state, GroupId id, const std::string& why, Actions& out) {
  Group* group = state.Find(id);
  if (group == nullptr || !group->InService() || group->state == GroupState::kDraining) return;
  if (group->state != GroupState::kReady) return AbortNow(state, *group, Reason::kDraining, why, out);
  StopAdmitting(state, *group, why, out);
}

// The group serves again, unless something else still wants it gone.
void ReopenGroup(ClusterState& state, GroupId id, Actions& out) {
  Group* group = state.Find(id);
  if (group == nullptr || group->state != GroupState::kDraining || !group->InService()) return;
  if (group->retiring || IsDrained(state, *group)) return;
  Reopen(state, *group, "the drain was undone", out);
}

std::string Target(const ClusterState& state, const Drain& drain) {
  if (!drain.devices.empty()) return List(state, drain.devices);
  std::vector<std::string> names;
  for (GroupId id : drain.groups) names.push_back(Name(id));
  return names.empty() ? "the group" : List(names);
}

std::string Progress(const ClusterState& state, const Drain& drain) {
  const Duration left = drain.deadline - state.now;
  if (drain.requests_left == 0) return absl::StrCat("no request left; waiting for the ranks to leave");
  const std::string requests = absl::StrCat(drain.requests_left, " of ", Count(drain.requests_at_start, "request"));
  if (!drain.past_deadline) return absl::StrCat("draining ", requests, ", ", Words(left), " left");
  if (drain.on_deadline == OnDeadline::kAbort) return absl::StrCat("aborting ", requests, ": the deadline has passed");
  return absl::StrCat("overdue by ", Words(Duration{-left.us}), ": ", requests, " still running");
}

void Report(ClusterState& state, Drain& drain, Actions& out) {
  const Duration left{std::max<int64_t>(0, (drain.deadline - state.now).us)};
  const bool overdue = drain.past_deadline && drain.on_deadline == OnDeadline::kWait;
  out.push_back(
      ReportDrain{drain.id, Progress(state, drain), drain.requests_left, left, overdue, false, Reason::kNone});
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

void AbortRequests(ClusterState& state, Drain& drain, Actions& out) {
  for (GroupId id : drain.groups) {
    Group* group = state.Find(id);
    if (group == nullptr || !group->InService() || group->requests.empty()) continue;
    const std::vector<Serial> serials(group->requests.begin(), group->requests.end());
    for (Serial serial : serials) {
      Request& request = state.At(serial);
      AbortCurrent(state, request, "drain deadline", out);
      if (request.told || request.stopped) continue;
      Fail(state, request, Reason::kDrainAborted,
           absl::StrCat(Name(id), " was drained", drain.reason.empty() ? "" : ": ", drain.reason,
                        "; the drain's deadline passed"),
           out);
    }
    state.SetTimer(group->deadline, state.now + state.options.leave_deadline, TimerKind::kGroup, id.value);
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
  const auto refuse = [&](Reason reason, std::string message) {
    KeepEnded(event.operation, reason, message, out);
    out.push_back(ReportDrain{event.operation, std::move(message), 0, {}, false, true, reason});
  };
  for (DeviceId id : event.devices) {
    if (state.Find(id) == nullptr) return refuse(Reason::kNotFound, absl::StrCat("there is no device ", id.value));
  }
  if (event.group.has_value() && state.Find(*event.group) == nullptr) {
    return refuse(Reason::kNotFound, absl::StrCat(Name(*event.group), " does not serve"));
  }
  Drain drain;
  drain.id = event.operation;
  drain.devices = event.group.has_value() ? std::vector<DeviceId>{} : event.devices;
  drain.groups = event.group.has_value() ? std::vector<GroupId>{*event.group} : GroupsOn(state, event.devices);
  if (const Model* model = event.force ? nullptr : WouldLoseLast(state, drain.groups)) {
    return refuse(Reason::kWouldLoseLastReplica, absl::StrCat("it would take the last ready replica of ", Name(*model),
                                                              "; force takes it all the same"));
  }
  drain.reason = event.reason;
  drain.on_deadline = event.on_deadline;
  drain.deadline = state.now + (event.deadline.us > 0 ? event.deadline : state.options.drain_deadline);
  drain.requests_at_start = RequestsOf(state, drain.groups);
  for (DeviceId id : drain.devices) {
    Device& device = state.At(id);
    if (!event.reason.empty() || !device.drain_wanted) device.reason = event.reason;
    device.cordoned = true;
    device.drain_wanted = true;
    RefreshState(device);
    KeepSoon(state, device);
    out.push_back(Tell{Name(state, id), event.reason.empty() ? "drain" : absl::StrCat("drain: ", event.reason)});
  }
  const std::string why =
      absl::StrCat("drain of ", Target(state, drain), event.reason.empty() ? "" : ": ", event.reason);
  const std::vector<GroupId> groups = drain.groups;
  Drain& added = state.drains.emplace(event.operation, std::move(drain)).first->second;
  KeepRunning(state, added, out);
  for (GroupId id : groups) CloseGroup(state, id, why, out);
  Arm(state, added);
  state.place_wanted = true;
  state.drains_touched = true;
}

void Handle(ClusterState& state, const UndrainRequested& event, Actions& out) {
  WithdrawDeferred(state, event.device, out);
  Device* device = state.Find(event.device);
  if (device == nullptr || !device->drain_wanted) return;
  device->drain_wanted = false;
  KeepSoon(state, *device);
  device->cordoned = false;
  device->reason.clear();
  RefreshState(*device);
  out.push_back(Tell{Name(state, device->id), "undrained"});
  std::vector<OperationId> undone;
  for (auto& [id, drain] : state.drains) {
    if (std::erase(drain.devices, event.device) == 0) continue;
    if (drain.devices.empty()) {
      undone.push_back(id);
    } else {
      drain.groups = GroupsOn(state, drain.devices);
      KeepRunning(state, drain, out);
    }
  }
  for (OperationId id : undone) Finish(state, state.drains.at(id), Reason::kCancelled, "undone by undrain", out);
  const std::vector<GroupId> groups = device->groups;
  for (GroupId id : groups) ReopenGroup(state, id, out);
  state.place_wanted = true;
  state.drains_touched = true;
}

void UpdateDrains(ClusterState& state, Actions& out) {
  state.drains_touched = false;
  std::vector<OperationId> ids;
  for (const auto& [id, drain] : state.drains) ids.push_back(id);
  for (OperationId id : ids) {
    Drain& drain = state.drains.at(id);
    const std::vector<GroupId> groups = drain.groups;
    for (GroupId group_id : groups) {
      Group* group = state.Find(group_id);
      if (group == nullptr || !group->InService() || !group->requests.empty()) continue;
      BeginDissolve(state, *group, group->reason, out);
    }
    if (!state.settled) continue;  // its groups and devices may yet come back
    const std::string target = Target(state, drain);
    std::erase_if(drain.groups, [&](GroupId group_id) { return state.groups.find(group_id) == state.groups.end(); });
    const int left = RequestsOf(state, drain.groups);
    const bool changed = std::exchange(drain.requests_left, left) != left;
    const bool free =
        std::all_of(drain.devices.begin(), drain.devices.end(), [&](DeviceId d) { return state.At(d).Free(); });
    if (drain.groups.empty() && free) {
      Finish(state, drain, Reason::kNone, absl::StrCat("drained ", target), out);
    } else if (changed) {
      Report(state, drain, out);
    }
  }
}

void OnDrainTimer(ClusterState& state, Drain& drain, Actions& out) {
  drain.next_report = kNever;
  if (!drain.past_deadline && state.now >= drain.deadline) {
    drain.past_deadline = true;
    if (drain.on_deadline == OnDeadline::kAbort) AbortRequests(state, drain, out);
  }
  drain.requests_left = RequestsOf(state, drain.groups);
  Report(state, drain, out);
  Arm(state, drain);
}

}  // namespace tandem::core
