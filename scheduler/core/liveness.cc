#include "scheduler/core/liveness.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/group.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/prefetch.h"
#include "scheduler/core/quarantine.h"
#include "scheduler/core/slowness.h"
#include "scheduler/core/words.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

// How long a rank has stood still: by its own word, and by what must follow from the group's requests.
struct Stillness {
  Duration busy;   // it says that a step is under way
  Duration steps;  // rank 0: no step ended, though the group has requests
  Duration apart;  // another rank: rank 0 ended steps all the while, which cannot be without it
};

Stillness WatchProgress(Group& group, Member& member, const GroupLoad& load, Instant now) {
  const bool moved = load.progress != member.progress;
  const bool has_work = !group.requests.empty();
  if (!load.busy || moved) {
    if (load.busy) member.longest = std::max(member.longest, now - member.progress_at);
    member.progress_at = now;
  }
  if (moved || !has_work) member.moved_at = now;
  member.progress = load.progress;
  if (&member != &group.members.front()) return {now - member.progress_at, {}, group.steps_at - member.moved_at};
  if (load.steps != group.steps || !has_work) group.steps_at = now;
  return {now - member.progress_at, now - group.steps_at, {}};
}

// What is wrong with a rank that stood still for so long; empty: nothing. A worker that says it has nothing to do, or
// counts progress of which no step comes, while requests wait on it, is not believed.
std::string WhatIsWrong(const Group& group, const Member& member, const Stillness& still, Duration patience) {
  const Duration limit = std::max(patience, Duration{5 * member.longest.us});
  const std::string work = Count(static_cast<int64_t>(group.requests.size()), "request");
  if (still.busy >= limit) return absl::StrCat("is busy and made no progress for ", Words(still.busy));
  // A rank 0 that says it is busy and stands still is waiting for another one perhaps: the rule above has its time.
  if (still.steps >= limit && still.busy.us < limit.us / 2) {
    return absl::StrCat("has ", work, ", claims to be well and ended no step for ", Words(still.steps));
  }
  if (still.apart >= limit) {
    return absl::StrCat("made no progress while its group went on for ", Words(still.apart));
  }
  return "";
}

// Most heartbeats of a fleet that is not full say for the second time that a group has nothing to do. All that they
// change is since when it stands still, which is when the device was heard last: so they need not look at the group,
// which is in no cache. The fingerprint of such a load; 0: it is not of that kind.
uint64_t IdleLoad(const HeartbeatReceived& event) {
  if (event.loads.size() != 1) return 0;
  const GroupLoad& load = event.loads.front();
  if (load.busy || load.running != 0 || load.waiting != 0) return 0;
  uint64_t print = 0x9e3779b97f4a7c15u;
  for (uint64_t part : {load.group.value, load.epoch.leader, uint64_t{load.epoch.counter}, load.progress, load.steps,
                        load.preemptions, static_cast<uint64_t>(load.free_blocks), uint64_t{load.rank0}}) {
    print = (print ^ part) * 0xd6e8feb86659fd93u;
    print ^= print >> 32;
  }
  return print | 1;
}

// False: the group is stuck and was aborted.
bool TakeLoad(ClusterState& state, Device& device, const GroupLoad& load, Actions& out) {
  Group* group = state.Find(load.group);
  if (group == nullptr || group->epoch != load.epoch) {
    const Leftover held{load.group, load.epoch};
    const bool leaves = std::find(device.leftovers.begin(), device.leftovers.end(), held) != device.leftovers.end();
    if (!state.settled || leaves) return true;  // It may be adopted yet; or it was told.
    // An order that went out on a newer stream than the one that was heard: nobody else would ever end this.
    ++state.counters.stale_groups;
    Evict(state, device, load.group, load.epoch, "this scheduler does not know it", out);
    ArmLiveness(state, device);
    return true;
  }
  if (group->ready_at == kNever || !group->InService()) return true;
  for (Member& member : group->members) {
    if (member.device != device.id) continue;
    const Stillness still = WatchProgress(*group, member, load, state.now);
    const std::string wrong = WhatIsWrong(*group, member, still, state.options.stuck_after);
    if (wrong.empty()) continue;
    // One rank that hangs stops them all in the same all-reduce, so of several the first to be seen is not the guilty.
    const bool lied = still.busy < state.options.stuck_after;
    if (lied || group->members.size() == 1) CountFailure(state, device, wrong, out);
    AbortNow(state, *group, Reason::kEngineFault, absl::StrCat(Name(state, device.id), " ", wrong), out);
    return false;
  }
  if (!load.rank0 || group->Rank0() != device.id) return true;
  group->running = load.running;
  group->waiting = load.waiting;
  group->steps = load.steps;
  group->preemptions = load.preemptions;
  Correct(state, *group, load.free_blocks);
  TakeStepTime(state, *group, load, out);
  return true;
}

// How long a worker may be away. One that parks becomes a new process first.
Duration Grace(const ClusterState& state, const Device& device) {
  return device.parking ? state.options.leave_deadline : state.options.detach_grace;
}

void Heard(ClusterState& state, Device& device, Actions& out) {
  device.last_heard = state.now;
  if (!device.suspect) return;
  device.suspect = false;
  out.push_back(Tell{Name(state, device.id), "heard again"});
  Rouse(state, device);
  for (GroupId id : device.groups) {
    Group& group = *state.Find(id);
    // Nobody knows what it did meanwhile: its silence had its own rule, and is no sign of standing still.
    group.steps_at = state.now;
    for (Member& member : group.members) member.progress_at = member.moved_at = state.now;
    if (Reindex(state, group)) state.helped.insert(group.model);
  }
  state.place_wanted = true;
  ArmLiveness(state, device);
}

}  // namespace

void Rouse(ClusterState& state, Device& device) {
  if (std::exchange(device.idle_load, 0) == 0) return;
  for (GroupId id : device.groups) {
    Group& group = *state.Find(id);
    for (Member& member : group.members) {
      if (member.device == device.id) member.progress_at = member.moved_at = device.last_heard;
    }
    if (group.Rank0() == device.id) group.steps_at = device.last_heard;
  }
}

void Handle(ClusterState& state, const HeartbeatReceived& event, Actions& out) {
  const uint64_t idle = IdleLoad(event);
  // A group at work is looked at below, and can come while the device does; one at rest mostly is not.
  if (idle == 0 && !event.loads.empty()) Prefetch(state.Find(event.loads.front().group), Group::kHotBytes);
  Device* device = state.Find(event.device);
  if (device == nullptr || !device->attached || device->incarnation != event.incarnation) {
    ++state.counters.stale_workers;
    return;
  }
  const bool as_before = idle != 0 && idle == device->idle_load;
  if (!as_before) Rouse(state, *device);
  Heard(state, *device, out);
  if (event.memory_free > device->memory_free && state.memory_awaited) {
    // Once a second is often enough to look whether others have left enough by now.
    const Instant soon = state.now + Seconds(1);
    state.SetTimer(state.placement_at, std::min(state.placement_at, soon), TimerKind::kPlacement, 0);
  }
  device->memory_free = event.memory_free;
  device->memory_process = event.memory_process;
  CountLoaded(state, *device);
  if (as_before) return;
  for (const GroupLoad& load : event.loads) TakeLoad(state, *device, load, out);
  const Group* group = idle == 0 ? nullptr : std::as_const(state).Find(event.loads.front().group);
  const bool nothing_to_do = group != nullptr && group->InService() && group->ready_at != kNever &&
                             group->epoch == event.loads.front().epoch && group->requests.empty();
  if (nothing_to_do && device->groups.size() == 1 && device->groups.front() == group->id) device->idle_load = idle;
}

void ArmLiveness(ClusterState& state, Device& device) {
  Instant next = kNever;
  if (device.attached) {
    next = device.last_heard + (device.suspect ? state.options.fence_after : state.options.suspect_after);
  } else if (device.state != DeviceState::kLost) {
    next = device.detached_at + Grace(state, device);
  }
  if (device.attached && (!device.leftovers.empty() || device.parking)) next = std::min(next, device.leave_deadline);
  state.SetTimer(device.timer, next, TimerKind::kDevice, device.id.value);
}

void OnDeviceTimer(ClusterState& state, Device& device, Actions& out) {
  device.timer = kNever;
  const CoreOptions& options = state.options;
  if (!device.attached) {
    if (device.state == DeviceState::kLost) return;
    if (state.now >= device.detached_at + Grace(state, device)) {
      return LoseDevice(state, device, LossCause::kStreamBroke,
                        absl::StrCat(device.parking ? "it was told to park" : "its stream broke",
                                     " and did not come back in ", Words(Grace(state, device))),
                        /*drop=*/false, out);
    }
    return ArmLiveness(state, device);
  }
  const Duration silent = state.now - device.last_heard;
  if (silent >= options.fence_after) {
    return LoseDevice(state, device, LossCause::kFrozen,
                      absl::StrCat("silent for ", Words(silent), ", taken for frozen"), /*drop=*/true, out);
  }
  if (!device.leftovers.empty() && state.now >= device.leave_deadline) {
    return LoseDevice(
        state, device, LossCause::kDisobeyed,
        absl::StrCat("did not leave ", Name(device.leftovers.front().group), " in ", Words(options.leave_deadline)),
        /*drop=*/true, out);
  }
  if (device.parking && state.now >= device.leave_deadline) {
    return LoseDevice(state, device, LossCause::kDisobeyed,
                      absl::StrCat("did not park in ", Words(options.leave_deadline)), /*drop=*/true, out);
  }
  if (silent >= options.suspect_after && !device.suspect) {
    device.suspect = true;
    out.push_back(Tell{Name(state, device.id), absl::StrCat("suspect: silent for ", Words(silent))});
    for (GroupId id : device.groups) Reindex(state, *state.Find(id));
  }
  ArmLiveness(state, device);
}

void ForgiveStandstill(ClusterState& state, Actions& out) {
  for (Device& device : state.devices) {
    Rouse(state, device);
    if (device.attached) device.last_heard = state.now;
    for (GroupId id : device.groups) {
      Group& group = *state.Find(id);
      for (Member& member : group.members) member.progress_at = member.moved_at = state.now;
      group.steps_at = state.now;
    }
    if (!device.attached && device.state != DeviceState::kLost) device.detached_at = state.now;
    ArmLiveness(state, device);
  }
  for (Model& model : state.models) {
    if (model.pool.quiet_since != kNever) model.pool.quiet_since = state.now;  // nobody looked meanwhile
  }
  out.push_back(Tell{"scheduler", "stood still itself; the workers' silence is counted from now"});
}

}  // namespace tandem::core
