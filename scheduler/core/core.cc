#include "scheduler/core/core.h"

#include <algorithm>
#include <variant>

#include "scheduler/core/admission.h"
#include "scheduler/core/adoption.h"
#include "scheduler/core/assignment.h"
#include "scheduler/core/cache_report.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/found_requests.h"
#include "scheduler/core/group.h"
#include "scheduler/core/health.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/link_probe.h"
#include "scheduler/core/liveness.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/prefetch.h"
#include "scheduler/core/quarantine.h"
#include "scheduler/core/rebalance.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/waiting_room.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

// A core that is stepped this late was stopped, or its machine slept: queues hold what it has not read.
constexpr Duration kStandstill = Seconds(1);

void Handle(ClusterState&, const Ticked&, Actions&) {}

void Fire(ClusterState& state, const Timer& timer, Actions& out) {
  switch (timer.kind) {
    case TimerKind::kReattach:
      state.reattach_until = kNever;
      return Settle(state, out);
    case TimerKind::kPlacement:
      state.placement_at = kNever;
      state.place_wanted = true;
      return;
    case TimerKind::kDevice:
      return OnDeviceTimer(state, state.At(DeviceId{static_cast<uint32_t>(timer.subject)}), out);
    case TimerKind::kGroup:
      return OnGroupDeadline(state, *state.Find(GroupId{timer.subject}), out);
    case TimerKind::kDrain:
      return OnDrainTimer(state, state.drains.at(OperationId{timer.subject}), out);
    case TimerKind::kRequest:
      state.At(timer.subject).deadline = kNever;
      return OnDeadlineOf(state, timer.subject, out);
    case TimerKind::kProbe:
      return OnProbeTimer(state, out);
    case TimerKind::kPool:
      return OnPoolTimer(state, out);
    case TimerKind::kQuarantine:
      return OnQuarantineTimer(state, state.At(DeviceId{static_cast<uint32_t>(timer.subject)}), out);
    case TimerKind::kMove:
      return OnMoveTimer(state, out);
    case TimerKind::kHealth:
      return OnHealthTimer(state, state.At(DeviceId{static_cast<uint32_t>(timer.subject)}), out);
    case TimerKind::kRelease:
      return OnReleaseTimer(state, state.At(ModelId{static_cast<uint32_t>(timer.subject)}));
  }
}

void FireTimers(ClusterState& state, Actions& out) {
  while (!state.timers.empty() && state.timers.begin()->at <= state.now) {
    const Timer timer = *state.timers.begin();
    state.timers.erase(state.timers.begin());
    Fire(state, timer, out);
    // Nearly all timers are those of devices, and whose turn it is next is known long before.
    if (state.timers.empty() || state.timers.begin()->kind != TimerKind::kDevice) continue;
    Prefetch(state.Find(DeviceId{static_cast<uint32_t>(state.timers.begin()->subject)}), Device::kHotBytes);
  }
}

// The consequences of an event, in the order in which each may need the one before.
void Conclude(ClusterState& state, Actions& out) {
  do {
    state.pools_touched |= state.place_wanted || state.drains_touched || !state.queued_now.empty();
    UpdateMove(state, out);                            // before placement counts replicas
    if (state.place_wanted) PlaceMissing(state, out);  // before a drain looks whether its replacement is coming
    UpdateMove(state, out);                            // a replica without room may have turned up
    if (state.drains_touched) {
      UpdateRollouts(state, out);
      DissolveUnneeded(state, out);
      UpdateDrains(state, out);
    }
    AssignWaiting(state, out);
    SettleWaiting(state, out);
    WakeAsked(state, out);  // what waits may be the first that asks for its model
  } while (state.drains_touched || state.place_wanted || !state.helped.empty());
  if (state.pools_touched) ArmPools(state);
  KeepChanged(state, out);
}

}  // namespace

Core::Core(const CoreOptions& options) { state_.options = options; }

Actions Core::Step(Instant now, const Event& event) {
  const bool late = NextDeadline() != kNever && now > NextDeadline() + kStandstill;
  state_.now = std::max(state_.now, now);
  Actions out;
  if (late) ForgiveStandstill(state_, out);
  std::visit([&](const auto& e) { Handle(state_, e, out); }, event);
  FireTimers(state_, out);
  Conclude(state_, out);
  return out;
}

Instant Core::NextDeadline() const { return state_.timers.empty() ? kNever : state_.timers.begin()->at; }

}  // namespace tandem::core
