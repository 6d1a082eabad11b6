#include "scheduler/core/kept.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/core/check.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/group.h"
#include "scheduler/core/quarantine.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

void RecallDevice(ClusterState& state, const KnownDevice& known) {
  const DeviceId id{static_cast<uint32_t>(state.devices.size())};
  Device& device = state.devices.emplace_back();
  device.id = id;
  device.spec.node = known.node;
  device.spec.index = known.index;
  device.spec.kind = known.kind;
  device.spec.model = known.model;
  device.spec.uuid = known.uuid;
  device.spec.memory_budget = known.memory_budget;
  device.cordoned = known.cordoned || known.drained;
  device.drain_wanted = known.drained;
  device.recalled = true;
  device.reason = known.HasWish() ? known.reason : "not seen since the scheduler started";
  device.kept = known;
  device.kept.wished_since = {};  // is not kept: the store has the time of day
  state.NameDevice(device);
  if (known.quarantined > 0) RecallQuarantine(state, device, known.quarantined, known.wished_since);
  KeepSoon(state, device);
}

void RecallDrain(ClusterState& state, const KnownDrain& known, Actions& out) {
  Drain drain;
  drain.id = known.operation;
  for (const std::string& name : known.devices) {
    const auto found = state.device_names.find(name);
    if (found == state.device_names.end()) continue;
    Device& device = state.At(found->second);
    device.cordoned = device.drain_wanted = true;
    drain.devices.push_back(device.id);
    KeepSoon(state, device);
  }
  if (known.group.has_value()) drain.groups = {*known.group};
  if (drain.devices.empty() && drain.groups.empty()) {
    return KeepEnded(known.operation, Reason::kNotFound, "the devices that it names are not known", out);
  }
  drain.reason = known.reason;
  drain.on_deadline = known.on_deadline;
  drain.requests_at_start = known.requests_at_start;
  // Before the workers are back there is nobody whose requests a deadline could end.
  drain.deadline = state.now + std::max(known.left, state.options.reattach_window);
  Drain& added = state.drains.emplace(known.operation, std::move(drain)).first->second;
  state.SetTimer(added.next_report, added.deadline, TimerKind::kDrain, added.id.value);
  out.push_back(ReportDrain{added.id, "the scheduler was restarted; waiting for the workers to come back",
                            std::max(0, added.requests_at_start), added.deadline - state.now});
}

}  // namespace

void KeepSoon(ClusterState& state, const Device& device) { state.keep.insert(device.id); }

KnownDevice Known(const Device& device) {
  KnownDevice known;
  known.node = device.spec.node;
  known.index = device.spec.index;
  known.kind = device.spec.kind;
  known.model = device.spec.model;
  known.uuid = device.spec.uuid;
  known.memory_budget = device.spec.memory_budget;
  known.cordoned = device.cordoned;
  known.drained = device.drain_wanted;
  known.quarantined = device.Quarantined() ? device.quarantines : 0;
  if (known.HasWish()) known.reason = device.reason;
  return known;
}

void KeepChanged(ClusterState& state, Actions& out) {
  for (DeviceId id : std::exchange(state.keep, {})) {
    Device& device = state.At(id);
    KnownDevice known = Known(device);
    if (known == device.kept) continue;
    device.kept = known;
    out.push_back(KeepDevice{std::move(known)});
  }
}

void KeepRunning(const ClusterState& state, const Drain& drain, Actions& out) {
  KeepDrain keep;
  keep.operation = drain.id;
  for (DeviceId id : drain.devices) keep.devices.push_back(Name(state, id));
  keep.requests_at_start = drain.requests_at_start;
  out.push_back(std::move(keep));
}

void KeepEnded(OperationId operation, Reason refused, const std::string& message, Actions& out) {
  KeepDrain keep;
  keep.operation = operation;
  keep.outcome = refused == Reason::kNone        ? DrainOutcome::kDone
                 : refused == Reason::kCancelled ? DrainOutcome::kUndone
                                                 : DrainOutcome::kRefused;
  keep.refused = refused;
  keep.message = message;
  out.push_back(std::move(keep));
}

void Recall(ClusterState& state, const LeaderStarted& event, Actions& out) {
  CORE_CHECK(state.devices.empty(), state.devices.size(), " devices before the first event");
  for (const KnownDevice& known : event.devices) {
    if (!state.device_names.contains(known.Name())) RecallDevice(state, known);
  }
  for (const KnownDrain& known : event.drains) RecallDrain(state, known, out);
  if (state.expected_devices == 0) {
    state.expected_devices = static_cast<int>(std::count_if(
        state.devices.begin(), state.devices.end(), [&](const Device& device) { return IsAwaited(state, device); }));
  }
  for (const Device& device : state.devices) {
    if (device.drain_wanted || device.cordoned) {
      out.push_back(Tell{Name(state, device.id), absl::StrCat(device.drain_wanted ? "still drained" : "still cordoned",
                                                              device.reason.empty() ? "" : ": ", device.reason)});
    }
  }
}

bool IsAwaited(const ClusterState& state, const Device& device) {
  if (!device.recalled) return false;
  if (!device.drain_wanted) return true;
  // Once drained it holds no group, and its card may have been pulled.
  return std::any_of(state.drains.begin(), state.drains.end(), [&](const auto& entry) {
    const std::vector<DeviceId>& devices = entry.second.devices;
    return std::find(devices.begin(), devices.end(), device.id) != devices.end();
  });
}

void JoinDrains(ClusterState& state, Group& group, Actions& out) {
  bool wanted = false;
  for (auto& [id, drain] : state.drains) {
    const bool listed = std::find(drain.groups.begin(), drain.groups.end(), group.id) != drain.groups.end();
    const bool touched = std::any_of(group.members.begin(), group.members.end(), [&](const Member& member) {
      return std::find(drain.devices.begin(), drain.devices.end(), member.device) != drain.devices.end();
    });
    if (!listed && !touched) continue;
    if (!listed) drain.groups.push_back(group.id);
    wanted = true;
  }
  if (wanted) {  // it serves until its replacement does
    group.leaving = state.drains_touched = state.place_wanted = true;
    return;
  }
  for (const Member& member : group.members) {
    if (!state.At(member.device).drain_wanted) continue;
    return AbortNow(state, group, Reason::kDraining, absl::StrCat(Name(state, member.device), " is drained"), out);
  }
}

void Defer(ClusterState& state, const DrainRequested& event, Actions& out) {
  const bool again = std::any_of(state.deferred.begin(), state.deferred.end(),
                                 [&](const DrainRequested& asked) { return asked.operation == event.operation; });
  if (again) return;
  state.deferred.push_back(event);
  out.push_back(ReportDrain{event.operation, "waiting for the workers to come back", 0, event.deadline});
}

void WithdrawDeferred(ClusterState& state, DeviceId device, Actions& out) {
  for (DrainRequested& asked : state.deferred) {
    if (asked.group.has_value()) continue;  // then it names no devices of its own
    if (std::erase(asked.devices, device) == 0 || !asked.devices.empty()) continue;
    const std::string message = "undone by undrain";
    out.push_back(ReportDrain{asked.operation, message, 0, {}, false, true, Reason::kCancelled});
    KeepEnded(asked.operation, Reason::kCancelled, message, out);
  }
  std::erase_if(state.deferred,
                [](const DrainRequested& asked) { return asked.devices.empty() && !asked.group.has_value(); });
}

void ConcludeRecall(ClusterState& state, Actions& out) {
  CORE_CHECK(state.settled, "the reattach window is still open");
  for (Device& device : state.devices) {
    if (!device.recalled || device.kept == KnownDevice{} || device.kept.HasWish()) continue;
    device.kept = {};
    out.push_back(ForgetDevice{Name(state, device.id)});
  }
  for (const DrainRequested& asked : std::exchange(state.deferred, {})) Handle(state, asked, out);
  state.drains_touched = true;
}

}  // namespace tandem::core
