#include "scheduler/core/worker.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/adoption.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/group.h"
#include "scheduler/core/health.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/link_probe.h"
#include "scheduler/core/liveness.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/quarantine.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

void CountLoss(Counters& counters, LossCause cause) {
  switch (cause) {
    case LossCause::kLeft:
      ++counters.lost_left;
      return;
    case LossCause::kStreamBroke:
      ++counters.lost_stream;
      return;
    case LossCause::kFrozen:
      ++counters.lost_frozen;
      return;
    case LossCause::kReplaced:
      ++counters.lost_replaced;
      return;
    case LossCause::kDisobeyed:
      ++counters.lost_disobeyed;
      return;
  }
}

Device& Introduce(ClusterState& state, const DeviceSpec& spec) {
  const DeviceId id{static_cast<uint32_t>(state.devices.size())};
  Device& device = state.devices.emplace_back();
  device.id = id;
  device.spec = spec;
  state.NameDevice(device);
  return device;
}

void ReindexGroups(ClusterState& state, const Device& device) {
  for (GroupId id : device.groups) {
    Group& group = *state.Find(id);
    if (Reindex(state, group)) state.helped.insert(group.model);
  }
}

// Rank 0 came back with the group: requests of ours that it no longer computes are lost.
void CompareRequests(ClusterState& state, Group& group, const HeldShard& shard, Actions& out) {
  const std::vector<Serial> ours(group.requests.begin(), group.requests.end());
  for (Serial serial : ours) {
    Request& request = state.At(serial);
    const bool held = std::any_of(shard.requests.begin(), shard.requests.end(), [&](const HeldRequest& h) {
      return h.request == request.id && h.attempt == request.attempt && !h.ended;
    });
    if (!held) {
      LoseAttempt(state, request, /*died=*/false, "its end was lost with the worker's stream", out);
    } else if (request.aborting) {  // the word to stop may have been lost too
      out.push_back(AbortAttempt{request.id, request.attempt, group.id, group.epoch, group.Rank0(), "said again"});
    }
  }
}

// The same process is back. What it holds decides; a command that the broken stream swallowed is given again.
void CompareHeld(ClusterState& state, Device& device, const std::vector<HeldShard>& shards, Actions& out) {
  const std::vector<GroupId> ours = device.groups;
  for (GroupId id : ours) {
    Group* group = state.Find(id);
    if (group == nullptr) continue;
    const auto held = std::find_if(shards.begin(), shards.end(), [&](const HeldShard& shard) {
      return shard.group == id && shard.epoch == group->epoch;
    });
    if (held == shards.end()) {
      MemberGone(state, *group, device.id, absl::StrCat(Name(state, device.id), " came back without it"), out);
    } else if (group->ending == Ending::kAborting) {
      out.push_back(AbortGroup{id, group->epoch, {device.id}, group->reason});
    } else if (group->ending == Ending::kDissolving) {
      out.push_back(DissolveGroup{id, group->epoch, {device.id}});
    } else if (group->ready_at == kNever) {
      AbortNow(state, *group, Reason::kWorkerLost,
               absl::StrCat("the stream of ", Name(state, device.id), " broke while it formed"), out);
    } else if (group->Rank0() == device.id) {
      CompareRequests(state, *group, *held, out);
    }
  }
}

}  // namespace

void RefreshState(Device& device) {
  if (!device.attached && device.state == DeviceState::kLost) return;
  if (device.drain_wanted) {
    const bool empty = device.Free() && device.parked;
    device.state = empty ? DeviceState::kDrained : DeviceState::kDraining;
  } else {
    device.state = device.Quarantined() ? DeviceState::kFailed : DeviceState::kActive;
  }
}

void DeviceFreed(ClusterState& state, Device& device) {
  if (!device.Free()) return;
  device.leave_deadline = kNever;
  RefreshState(device);
  if (device.drain_wanted) state.emptied.push_back(device.id);
  state.place_wanted = true;
  state.drains_touched = true;
}

void Evict(ClusterState& state, Device& device, GroupId group, GroupEpoch epoch, const std::string& why, Actions& out) {
  device.leftovers.push_back({group, epoch});
  device.parked = false;  // whatever it said when it attached
  device.leave_deadline = state.now + state.options.leave_deadline;
  RefreshState(device);
  out.push_back(AbortGroup{group, epoch, {device.id}, why});
}

void LoseDevice(ClusterState& state, Device& device, LossCause cause, const std::string& why, bool drop, Actions& out) {
  CountLoss(state.counters, cause);
  if (drop && device.attached) out.push_back(DropWorker{device.id, device.incarnation, why});
  device.attached = false;
  device.suspect = false;
  device.detached_at = state.now;
  device.state = DeviceState::kLost;
  if (!device.drain_wanted && !device.cordoned && !device.Quarantined()) device.reason = why;
  KeepSoon(state, device);  // the reason of a quarantine gives way to that of the loss
  device.leftovers.clear();
  device.leave_deadline = kNever;
  device.parked = device.parking = false;
  out.push_back(Tell{Name(state, device.id), absl::StrCat("LOST: ", why)});
  ForgetClaims(state, device.id);
  const std::vector<GroupId> groups = device.groups;
  for (GroupId id : groups) {
    MemberGone(state, *state.Find(id), device.id, absl::StrCat(Name(state, device.id), " lost: ", why), out);
  }
  if (cause != LossCause::kLeft) CountFailure(state, device, why, out);
  ArmLiveness(state, device);
  state.place_wanted = true;
  state.drains_touched = true;
}

void Handle(ClusterState& state, const WorkerAttached& event, Actions& out) {
  const std::string name = event.device.Name();
  const auto known = state.device_names.find(name);
  Device& device = known == state.device_names.end() ? Introduce(state, event.device) : state.At(known->second);
  const bool same = known != state.device_names.end() && device.incarnation == event.incarnation;
  if (device.attached && !same) {
    if (!device.suspect && !device.parking) {
      out.push_back(RefuseWorker{name, event.incarnation,
                                 absl::StrCat("another worker process speaks for ", name, " and was heard ",
                                              Words(state.now - device.last_heard), " ago; stop it first")});
      return;
    }
    out.push_back(DropWorker{device.id, device.incarnation, "replaced by a new process"});
  }
  const bool parks = event.parked && device.parking && device.Free();  // it is the process that we waited for
  if (!same && !parks && device.state != DeviceState::kLost) {
    LoseDevice(state, device, LossCause::kReplaced, "a new worker process took its place", /*drop=*/false, out);
  }
  const bool was_lost = device.state == DeviceState::kLost;
  if (device.spec.uuid != event.device.uuid) ForgetLinks(state, device.id);
  device.spec = event.device;
  device.incarnation = event.incarnation;
  device.attached = true;
  device.recalled = false;
  KeepSoon(state, device);
  if (!same) ForgetLasting(state, device);  // the new process says what holds now
  device.suspect = false;
  device.parked = device.parking = false;
  device.leave_deadline = kNever;
  device.leftovers.clear();  // what it holds now is in the event
  device.last_heard = state.now;
  device.detached_at = kNever;
  device.memory_free = event.device.memory_free;
  device.memory_process = event.device.memory_process;
  if (!device.drain_wanted && !device.cordoned && !device.Quarantined()) device.reason.clear();
  out.push_back(AdmitWorker{device.id, device.incarnation});
  if (same) CompareHeld(state, device, event.shards, out);
  ForgetClaims(state, device.id);  // of a line that broke while others were awaited: its newer word stands
  for (const HeldShard& shard : event.shards) {
    const bool ours = std::find(device.groups.begin(), device.groups.end(), shard.group) != device.groups.end();
    if (!ours) Claim(state, device, shard, out);
  }
  // One that parked under a drain that is no more is as good as any new process. One that was to take part in a group
  // since, and never heard of it, is told to park once that group has ended.
  device.parked = event.parked && device.drain_wanted && device.Free();
  device.state = DeviceState::kActive;
  RefreshState(device);
  ReindexGroups(state, device);
  ArmLiveness(state, device);
  if (device.drain_wanted) {
    state.emptied.push_back(device.id);
    state.drains_touched = true;
  }
  out.push_back(
      Tell{name, absl::StrCat(device.parked ? "parked: "
                              : was_lost    ? (same ? "back: " : "attached: ")
                                            : "stream is back: ",
                              Words(device.spec.memory_budget), " budget, ", Words(device.memory_free), " free")});
  if (!same) ReconsiderAll(state);
  state.place_wanted = true;
  LookAtLinksSoon(state);
  SettleIfComplete(state, out);
}

void Handle(ClusterState& state, const WorkerDetached& event, Actions& out) {
  Device* device = state.Find(event.device);
  if (device == nullptr || device->incarnation != event.incarnation || device->state == DeviceState::kLost) {
    ++state.counters.stale_workers;
    return;
  }
  const std::string why = event.why.empty() ? "its stream ended" : event.why;
  if (event.process_gone || state.options.detach_grace.us <= 0) {
    return LoseDevice(state, *device, event.process_gone ? LossCause::kLeft : LossCause::kStreamBroke, why,
                      /*drop=*/false, out);
  }
  if (!device->attached) return;
  device->attached = false;
  device->suspect = false;
  device->detached_at = state.now;
  ReindexGroups(state, *device);
  ArmLiveness(state, *device);
  out.push_back(Tell{Name(state, device->id), absl::StrCat("detached: ", why)});
}

}  // namespace tandem::core
