// What a scheduler's store would hold of a core: fed with its events and actions, it tells the next core what the one
// before left behind, as the shell does. For tests that restart a scheduler without one.
#ifndef TANDEM_TESTS_KEPT_H_
#define TANDEM_TESTS_KEPT_H_

#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "scheduler/core/core.h"

namespace tandem::core {

class Kept {
 public:
  struct KeptDrain {
    DrainRequested asked;
    std::vector<std::string> devices;  // by name
    Instant deadline;
    int requests_at_start = 0;
    bool accepted = false;
  };

  // Before the step with it.
  void Ask(Instant now, const Event& event, const ClusterState& state) {
    const auto* asked = std::get_if<DrainRequested>(&event);
    if (asked == nullptr || drains_.contains(asked->operation)) return;
    KeptDrain& drain = drains_[asked->operation];
    drain.asked = *asked;
    drain.deadline = now + (asked->deadline.us > 0 ? asked->deadline : state.options.drain_deadline);
    for (DeviceId id : asked->devices) {
      if (id.value < state.devices.size()) drain.devices.push_back(state.At(id).spec.Name());
    }
  }

  void Take(Instant now, const Action& action) {
    if (const auto* keep = std::get_if<KeepDevice>(&action)) {
      KnownDevice& before = devices_[keep->device.Name()];
      if (before.quarantined != keep->device.quarantined) quarantined_at_[keep->device.Name()] = now;
      before = keep->device;
    } else if (const auto* forget = std::get_if<ForgetDevice>(&action)) {
      devices_.erase(forget->name);
    } else if (const auto* drain = std::get_if<KeepDrain>(&action)) {
      if (drain->outcome != DrainOutcome::kRunning) {
        drains_.erase(drain->operation);
        return;
      }
      KeptDrain& kept = drains_[drain->operation];
      kept.accepted = true;
      kept.devices = drain->devices;
      kept.requests_at_start = drain->requests_at_start;
    }
  }

  LeaderStarted Recall(Instant now, uint64_t leader, int expected) const {
    LeaderStarted started{leader, expected};
    for (const auto& [name, device] : devices_) {
      started.devices.push_back(device);
      if (device.quarantined > 0) started.devices.back().wished_since = now - quarantined_at_.at(name);
    }
    for (const auto& [id, drain] : drains_) {
      if (!drain.accepted) continue;
      started.drains.push_back({id, drain.devices, drain.asked.group, drain.asked.reason, drain.deadline - now,
                                drain.asked.on_deadline, drain.asked.force, drain.requests_at_start});
      if (drain.asked.group.has_value()) started.drains.back().devices.clear();
    }
    return started;
  }
  // That were asked for and not decided: to be asked again behind Recall.
  std::vector<DrainRequested> Undecided(Instant now) const {
    std::vector<DrainRequested> events;
    for (const auto& [id, drain] : drains_) {
      if (drain.accepted) continue;
      DrainRequested event = drain.asked;
      event.devices.clear();
      for (const std::string& name : drain.devices) {
        const auto found = devices_.find(name);
        if (found == devices_.end()) continue;
        event.devices.push_back({static_cast<uint32_t>(std::distance(devices_.begin(), found))});
      }
      event.deadline = std::max(drain.deadline - now, Milliseconds(1));
      events.push_back(std::move(event));
    }
    return events;
  }

  const std::map<std::string, KnownDevice>& devices() const { return devices_; }
  const std::map<OperationId, KeptDrain>& drains() const { return drains_; }

 private:
  std::map<std::string, KnownDevice> devices_;
  std::map<std::string, Instant> quarantined_at_;
  std::map<OperationId, KeptDrain> drains_;
};

}  // namespace tandem::core

#endif  // TANDEM_TESTS_KEPT_H_
