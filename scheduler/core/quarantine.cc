#include "scheduler/core/quarantine.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/core/health.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/words.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

constexpr Duration kOneIncident = Seconds(5);  // an engine that fails, its process that dies, its stream that breaks

// Of the quarantine of that number, counted from 1.
Duration CoolOff(const CoreOptions& options, int number) {
  Duration cool_off = options.quarantine_first;
  for (int i = 1; i < number && cool_off < options.quarantine_most; ++i) cool_off.us *= 2;
  return std::min(cool_off, options.quarantine_most);
}

int OutByItself(const ClusterState& state) {
  return static_cast<int>(std::count_if(state.devices.begin(), state.devices.end(), [](const Device& device) {
    return device.Quarantined() || WithdrawnByHealth(device);
  }));
}

}  // namespace

bool MayLeave(ClusterState& state, const Device& device, const std::string& what, Actions& out) {
  const int there = OutByItself(state);
  const int most =
      static_cast<int>(static_cast<int64_t>(state.devices.size()) * state.options.quarantine_percent / 100);
  if (there < most) return true;
  out.push_back(Tell{Name(state, device.id),
                     absl::StrCat(what, "; STAYS IN SERVICE: ", there, " of ",
                                  Count(static_cast<int64_t>(state.devices.size()), "device"),
                                  there == 1 ? " is" : " are", " in quarantine and ", most,
                                  " may be without an operator; cordon it, or uncordon one that was repaired")});
  return false;
}

void Quarantine(ClusterState& state, Device& device, const std::string& what, Duration cool_off, Actions& out) {
  ++device.quarantines;
  if (cool_off.us <= 0) cool_off = CoolOff(state.options, device.quarantines);
  device.quarantined_at = state.now;
  if (!device.drain_wanted && !device.cordoned) {
    device.reason = absl::StrCat("quarantined: ", what, "; for ", Words(cool_off), " or until uncordoned");
  }
  state.SetTimer(device.quarantined_until, state.now + cool_off, TimerKind::kQuarantine, device.id.value);
  RefreshState(device);
  KeepSoon(state, device);
  state.place_wanted = true;
  out.push_back(
      Tell{Name(state, device.id), absl::StrCat("FAILED: quarantine number ", device.quarantines, ": ", what,
                                                "; no new group for ", Words(cool_off), " or until uncordoned")});
}

void RecallQuarantine(ClusterState& state, Device& device, int number, Duration since) {
  const Duration cool_off = CoolOff(state.options, number);
  const Duration left{std::clamp<int64_t>(cool_off.us - since.us, 0, cool_off.us)};  // that clock may have been set
  device.quarantines = number;
  device.quarantined_at = state.now;
  state.SetTimer(device.quarantined_until, state.now + left, TimerKind::kQuarantine, device.id.value);
}

void CountFailure(ClusterState& state, Device& device, const std::string& what, Actions& out) {
  const CoreOptions& options = state.options;
  if (options.quarantine_after <= 0 || device.Quarantined()) return;
  std::vector<Instant>& failures = device.failures;
  std::erase_if(failures, [&](Instant at) { return at + options.quarantine_window < state.now; });
  if (!failures.empty() && state.now < failures.back() + kOneIncident) return;
  failures.push_back(state.now);
  if (static_cast<int>(failures.size()) < options.quarantine_after) return;
  // The latest ones are enough to go by, however long the brake holds.
  if (static_cast<int>(failures.size()) > options.quarantine_after) failures.erase(failures.begin());
  const std::string count =
      absl::StrCat("failed ", failures.size(), " times in ", Words(options.quarantine_window), ", the last: ", what);
  if (MayLeave(state, device, count, out)) Quarantine(state, device, count, {}, out);
}

void Release(ClusterState& state, Device& device, const std::string& why, Actions& out) {
  device.failures.clear();
  if (!device.Quarantined()) return;
  state.SetTimer(device.quarantined_until, kNever, TimerKind::kQuarantine, device.id.value);
  device.quarantined_at = kNever;
  ForgetQuarantine(state, device);
  if (!device.drain_wanted && !device.cordoned) device.reason.clear();
  RefreshState(device);
  KeepSoon(state, device);
  state.place_wanted = true;
  out.push_back(Tell{Name(state, device.id), absl::StrCat("out of quarantine: ", why)});
}

void OnQuarantineTimer(ClusterState& state, Device& device, Actions& out) {
  device.quarantined_until = kNever;
  if (AilsToBeOut(device)) {  // what put it here still holds
    return state.SetTimer(device.quarantined_until, state.now + state.options.quarantine_first, TimerKind::kQuarantine,
                          device.id.value);
  }
  Release(state, device, "its time is over; the next one would take twice as long", out);
}

}  // namespace tandem::core
