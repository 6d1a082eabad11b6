#include "scheduler/core/liveness.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/group.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/words.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

// Returns how long the rank has stood still under load.
Duration WatchProgress(Member& member, const GroupLoad& load, Instant now) {
  if (!load.busy || load.progress != member.progress) {
    if (load.busy) member.longest = std::max(member.longest, now - member.progress_at);
    member.progress = load.progress;
    member.progress_at = now;
  }
  return now - member.progress_at;
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
    const Duration still = WatchProgress(member, load, state.now);
    if (still >= std::max(state.options.stuck_after, Duration{5 * member.longest.us})) {
      AbortNow(state, *group, Reason::kEngineFault,
               absl::StrCat(Name(state, device.id), " is busy and made no progress for ", Words(still)), out);
      return false;
    }
  }
  if (!load.rank0 || group->Rank0() != device.id) return true;
  group->running = load.running;
  group->waiting = load.waiting;
  group->steps = load.steps;
  group->preemptions = load.preemptions;
  Correct(state, *group, load.free_blocks);
  return true;
}

void Heard(ClusterState& state, Device& device, Actions& out) {
  device.last_heard = state.now;
  if (!device.suspect) return;
  device.suspect = false;
  out.push_back(Tell{Name(state, device.id), "heard again"});
  for (GroupId id : device.groups) {
    Group& group = *state.Find(id);
    if (Reindex(state, group)) state.helped.insert(group.model);
  }
  state.place_wanted = true;
  ArmLiveness(state, device);
}

}  // namespace

void Handle(ClusterState& state, const HeartbeatReceived& event, Actions& out) {
  Device* device = state.Find(event.device);
  if (device == nullptr || !device->attached || device->incarnation != event.incarnation) {
    ++state.counters.stale_workers;
    return;
  }
  Heard(state, *device, out);
  if (event.memory_free > device->memory_free && state.memory_awaited) {
    // Once a second is often enough to look whether others have left enough by now.
    const Instant soon = state.now + Seconds(1);
    state.SetTimer(state.placement_at, std::min(state.placement_at, soon), TimerKind::kPlacement, 0);
  }
  device->memory_free = event.memory_free;
  device->memory_process = event.memory_process;
  CountLoaded(state, *device);
  for (const GroupLoad& load : event.loads) TakeLoad(state, *device, load, out);
}

void ArmLiveness(ClusterState& state, Device& device) {
  Instant next = kNever;
  if (device.attached) {
    next = device.last_heard + (device.suspect ? state.options.fence_after : state.options.suspect_after);
  } else if (device.state != DeviceState::kLost) {
    next = device.detached_at + state.options.detach_grace;
  }
  if (device.attached && !device.leftovers.empty()) next = std::min(next, device.leave_deadline);
  state.SetTimer(device.timer, next, TimerKind::kDevice, device.id.value);
}

void OnDeviceTimer(ClusterState& state, Device& device, Actions& out) {
  device.timer = kNever;
  const CoreOptions& options = state.options;
  if (!device.attached) {
    if (device.state == DeviceState::kLost) return;
    if (state.now >= device.detached_at + options.detach_grace) {
      return LoseDevice(state, device,
                        absl::StrCat("its stream broke and did not come back in ", Words(options.detach_grace)),
                        /*drop=*/false, out);
    }
    return ArmLiveness(state, device);
  }
  const Duration silent = state.now - device.last_heard;
  if (silent >= options.fence_after) {
    return LoseDevice(state, device, absl::StrCat("silent for ", Words(silent), ", taken for frozen"), /*drop=*/true,
                      out);
  }
  if (!device.leftovers.empty() && state.now >= device.leave_deadline) {
    return LoseDevice(
        state, device,
        absl::StrCat("did not leave ", Name(device.leftovers.front().group), " in ", Words(options.leave_deadline)),
        /*drop=*/true, out);
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
    if (device.attached) device.last_heard = state.now;
    for (GroupId id : device.groups) {
      for (Member& member : state.Find(id)->members) member.progress_at = state.now;
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
