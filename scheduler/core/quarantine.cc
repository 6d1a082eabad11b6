#include "scheduler/core/quarantine.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/words.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

constexpr Duration kOneIncident = Seconds(5);  // an engine that fails, its process that dies, its stream that breaks

int InQuarantine(const ClusterState& state) {
  return static_cast<int>(std::count_if(state.devices.begin(), state.devices.end(),
                                        [](const Device& device) { return device.Quarantined(); }));
}

void Enter(ClusterState& state, Device& device, const std::string& what, Actions& out) {
  const CoreOptions& options = state.options;
  Duration cool_off = options.quarantine_first;
  for (int i = 0; i < device.quarantines && cool_off < options.quarantine_most; ++i) cool_off.us *= 2;
  cool_off = std::min(cool_off, options.quarantine_most);
  ++device.quarantines;
  device.quarantined_at = state.now;
  if (!device.drain_wanted && !device.cordoned) {
    device.reason =
        absl::StrCat("quarantined: failed ", device.failures.size(), " times in ", Words(options.quarantine_window),
                     ", the last: ", what, "; for ", Words(cool_off), " or until uncordoned");
  }
  state.SetTimer(device.quarantined_until, state.now + cool_off, TimerKind::kQuarantine, device.id.value);
  RefreshState(device);
  KeepSoon(state, device);
  state.place_wanted = true;
  out.push_back(Tell{Name(state, device.id),
                     absl::StrCat("FAILED: quarantine number ", device.quarantines, ": failed ", device.failures.size(),
                                  " times in ", Words(options.quarantine_window), ", the last: ", what,
                                  "; no new group for ", Words(cool_off), " or until uncordoned")});
}

}  // namespace

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
  const int there = InQuarantine(state);
  const int most = static_cast<int>(static_cast<int64_t>(state.devices.size()) * options.quarantine_percent / 100);
  if (there < most) return Enter(state, device, what, out);
  out.push_back(Tell{
      Name(state, device.id),
      absl::StrCat("failed ", failures.size(), " times in ", Words(options.quarantine_window), ", the last: ", what,
                   "; STAYS IN SERVICE: ", there, " of ", Count(static_cast<int64_t>(state.devices.size()), "device"),
                   there == 1 ? " is" : " are", " in quarantine and ", most,
                   " may be without an operator; cordon it, or uncordon one that was repaired")});
}

void Release(ClusterState& state, Device& device, const std::string& why, Actions& out) {
  device.failures.clear();
  if (!device.Quarantined()) return;
  state.SetTimer(device.quarantined_until, kNever, TimerKind::kQuarantine, device.id.value);
  device.quarantined_at = kNever;
  if (!device.drain_wanted && !device.cordoned) device.reason.clear();
  RefreshState(device);
  KeepSoon(state, device);
  state.place_wanted = true;
  out.push_back(Tell{Name(state, device.id), absl::StrCat("out of quarantine: ", why)});
}

void OnQuarantineTimer(ClusterState& state, Device& device, Actions& out) {
  device.quarantined_until = kNever;
  Release(state, device, "its time is over; the next one would take twice as long", out);
}

void Handle(ClusterState& state, const HealthReported& event, Actions& out) {
  const Device* device = state.Find(event.device);
  if (device == nullptr || device->incarnation != event.incarnation) {
    ++state.counters.stale_workers;
    return;
  }
  out.push_back(Tell{Name(state, event.device), absl::StrCat("health ", event.code, ": ", event.message)});
}

}  // namespace tandem::core
