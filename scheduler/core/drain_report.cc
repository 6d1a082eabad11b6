#include "scheduler/core/drain_report.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

// Groups of the drain that serve until they are replaced.
std::vector<GroupId> Open(const ClusterState& state, const Drain& drain) {
  std::vector<GroupId> open;
  for (GroupId id : drain.groups) {
    const Group* group = state.Find(id);
    if (group != nullptr && group->Serves() && group->state == GroupState::kReady) open.push_back(id);
  }
  return open;
}

// ", replacement groups/12 loading 62 %" for each model that gets one; `open`: or why it gets none.
std::string Replacements(const ClusterState& state, const Drain& drain, bool open, bool with_times) {
  std::set<ModelId> models;
  for (GroupId id : drain.groups) {
    if (const Group* group = state.Find(id)) models.insert(group->model);
  }
  std::string text;
  for (ModelId id : models) {
    const Model& model = state.At(id);
    bool any = false;
    for (GroupId group_id : model.groups) {
      const Group& group = *state.Find(group_id);
      if (!group.CountsAsReplica() || group.state == GroupState::kReady) continue;
      any = true;
      const bool loads = group.state == GroupState::kLoading;
      absl::StrAppend(&text, ", replacement ", Name(group_id), loads ? " loading" : " forming");
      const int percent = loads ? LoadedPercent(state, group) : -1;
      if (with_times && percent >= 0) absl::StrAppend(&text, " ", percent, " %");
    }
    if (any || !open) continue;
    if (WaitsToRetry(state, model)) {
      absl::StrAppend(&text, ", a replacement failed and is tried again");
      if (with_times) absl::StrAppend(&text, " in ", Words(model.retry_at - state.now));
    } else if (!model.waits_for.empty()) {
      absl::StrAppend(&text, ", no replacement: ", model.waits_for);
    }
  }
  return text;
}

// Devices that are empty of groups and not yet of their process.
std::string Parking(const ClusterState& state, const Drain& drain) {
  std::vector<std::string> names;
  for (DeviceId id : drain.devices) {
    const Device& device = state.At(id);
    if (device.Free() && !device.parked && device.state != DeviceState::kLost) names.push_back(Name(state, id));
  }
  return List(names, 8);
}

}  // namespace

std::string TargetOf(const ClusterState& state, const Drain& drain) {
  if (!drain.devices.empty()) return List(state, drain.devices);
  std::vector<std::string> names;
  for (GroupId id : drain.groups) names.push_back(Name(id));
  return names.empty() ? "the group" : List(names);
}

std::string DescribeDrain(const ClusterState& state, const Drain& drain, bool with_times) {
  if (!state.settled) return "waiting for the workers to come back after the scheduler's start";
  const std::vector<GroupId> open = Open(state, drain);
  if (drain.requests_left == 0 && open.empty()) {
    if (!drain.groups.empty()) return "no request left; waiting for the ranks to leave";
    return absl::StrCat("no request left; waiting for the worker of ", Parking(state, drain), " to park");
  }
  const Duration left = drain.deadline - state.now;
  const std::string requests = absl::StrCat(drain.requests_left, " of ", Count(drain.requests_at_start, "request"));
  std::string text;
  if (drain.past_deadline && drain.on_deadline == OnDeadline::kAbort) {
    text = absl::StrCat("aborting ", requests, ": the deadline has passed");
  } else if (drain.past_deadline && drain.on_deadline == OnDeadline::kMigrate) {
    text = absl::StrCat("moving ", requests, " to other groups: the deadline has passed");
  } else if (drain.past_deadline) {
    text = with_times ? absl::StrCat("overdue by ", Words(Duration{-left.us})) : "overdue";
    absl::StrAppend(&text, ": ", requests, " still running");
  } else {
    text = open.empty()
               ? absl::StrCat("draining ", requests)
               : absl::StrCat(
                     Count(drain.requests_left, "request"), " running, ",
                     absl::StrJoin(open, " and ", [](std::string* out, GroupId id) { absl::StrAppend(out, Name(id)); }),
                     open.size() == 1 ? " serves" : " serve", " until replaced");
    if (with_times) absl::StrAppend(&text, ", ", Words(left), " left");
  }
  return text + Replacements(state, drain, !open.empty(), with_times);
}

std::string DescribeEnd(const ClusterState& state, const Drain& drain, const std::string& target) {
  std::vector<DeviceId> lost;
  for (DeviceId id : drain.devices) {
    if (!state.At(id).parked) lost.push_back(id);
  }
  std::string text = absl::StrCat("drained ", target);
  if (!lost.empty()) absl::StrAppend(&text, "; no worker process is left on ", List(state, lost, 8));
  return text;
}

}  // namespace tandem::core
