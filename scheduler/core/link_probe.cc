#include "scheduler/core/link_probe.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/rebalance.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

void LookAt(ClusterState& state, Instant at) { state.SetTimer(state.probe_at, at, TimerKind::kProbe, 0); }

void LookBefore(ClusterState& state, Instant at) { LookAt(state, std::min(state.probe_at, at)); }

LinkProbe* Find(ClusterState& state, uint64_t id, DeviceId device) {
  const auto it = state.probes.find(id);
  if (it == state.probes.end() || (it->second.a != device && it->second.b != device)) return nullptr;
  return &it->second;
}

bool CanBeProbed(const Device& device) {
  return device.attached && !device.suspect && !device.parked && device.state == DeviceState::kActive &&
         device.leftovers.empty();
}

// A replica that has its devices and only waits out a pause after a failure. One that cannot be placed is not held up
// by a probe: what would let it be placed, a worker that comes or memory that is freed, starts its group at once.
bool FormsSoon(const ClusterState& state) {
  return std::any_of(state.models.begin(), state.models.end(), [&](const Model& model) {
    return state.Replicas(model) < state.Wanted(model) && !model.blocked &&
           (model.report.verdict == Verdict::kPlaced || model.report.verdict == Verdict::kNotTried);
  });
}

bool IsBusy(const ClusterState& state, const Node& node) {
  for (DeviceId id : node.devices) {
    for (GroupId group_id : state.At(id).groups) {
      const Group* group = state.Find(group_id);
      if (group->state != GroupState::kReady || !group->InService()) return true;
      if (!group->requests.empty() || group->running > 0 || group->waiting > 0) return true;
    }
  }
  return false;
}

bool IsProbed(const ClusterState& state, const Node& node) {
  return std::any_of(state.probes.begin(), state.probes.end(),
                     [&](const auto& probe) { return state.At(probe.second.a).spec.node == node.name; });
}

Duration DeadlineOf(const ClusterState& state, DeviceId device) {
  return state.At(device).spec.kind == "cuda" ? state.options.gpu_probe_deadline : state.options.probe_deadline;
}

void Start(ClusterState& state, LinkRecord& link, Actions& out) {
  const Duration deadline = DeadlineOf(state, link.a);
  const LinkProbe probe{++state.last_probe, link.a, link.b, state.now + deadline};
  link.due = kNever;
  state.probes.emplace(probe.id, probe);
  out.push_back(MeasureLink{probe.id, probe.a, probe.b, deadline});
}

void Fail(ClusterState& state, const LinkProbe& probe, const std::string& why, Actions& out) {
  LinkRecord& link = state.links.at({probe.a, probe.b});
  const Duration first = DeadlineOf(state, probe.a), most = state.options.probe_again;
  link.back_off = link.back_off.us == 0 ? first : std::min(most, Duration{link.back_off.us * 2});
  link.due = state.now + link.back_off;
  link.why_not = why;
  out.push_back(Tell{Name(state, probe.a), absl::StrCat("link to ", Name(state, probe.b), " not measured: ", why,
                                                        "; tried again in ", Words(link.back_off))});
  state.probes.erase(probe.id);
}

// The first pair of the node whose turn it is; a pair seen for the first time enters the table.
LinkRecord* FirstDue(ClusterState& state, const Node& node) {
  LinkRecord* first = nullptr;
  for (size_t i = 0; i < node.devices.size(); ++i) {
    const Device& a = state.At(node.devices[i]);
    if (!CanBeProbed(a)) continue;
    for (size_t j = i + 1; j < node.devices.size(); ++j) {
      const Device& b = state.At(node.devices[j]);
      if (!CanBeProbed(b) || a.spec.kind != b.spec.kind) continue;
      LinkRecord fresh{a.id, b.id};
      fresh.due = state.now;
      LinkRecord& link = state.links.try_emplace({a.id, b.id}, std::move(fresh)).first->second;
      if (link.due <= state.now && first == nullptr) first = &link;
    }
  }
  return first;
}

// When the timer must look again, given that all was done that could be done now.
Instant NextLook(const ClusterState& state, bool held_back) {
  Instant next = held_back ? state.now + state.options.probe_pause : kNever;
  for (const auto& [id, probe] : state.probes) next = std::min(next, probe.deadline);
  for (const auto& [pair, link] : state.links) {
    // A worker that comes back has the timer look anew.
    if (link.due == kNever || !state.At(link.a).attached || !state.At(link.b).attached) continue;
    // Due and not begun: its host is busy, or one of its devices not to be disturbed.
    next = std::min(next, std::max(link.due, state.now + state.options.probe_pause));
  }
  return next;
}

}  // namespace

void LookAtLinksSoon(ClusterState& state) {
  if (state.options.link_probe == LinkProbing::kOff) return;
  LookBefore(state, state.now + state.options.probe_pause);
}

void ForgetLinks(ClusterState& state, DeviceId device) {
  const auto about = [&](const auto& entry) { return entry.second.a == device || entry.second.b == device; };
  std::erase_if(state.probes, about);
  std::erase_if(state.links, about);
}

void OnProbeTimer(ClusterState& state, Actions& out) {
  state.probe_at = kNever;
  std::vector<LinkProbe> overdue;
  for (const auto& [id, probe] : state.probes) {
    if (probe.deadline <= state.now) overdue.push_back(probe);
  }
  for (const LinkProbe& probe : overdue) {
    Fail(state, probe, absl::StrCat("nothing heard in ", Words(DeadlineOf(state, probe.a))), out);
  }
  const bool forms_soon = !state.settled || FormsSoon(state);
  bool held_back = false;
  for (const Node& node : state.nodes) {
    if (node.devices.size() < 2) continue;
    const bool busy = forms_soon || IsBusy(state, node);
    held_back |= busy;
    if (busy || IsProbed(state, node)) continue;
    if (LinkRecord* link = FirstDue(state, node)) Start(state, *link, out);
  }
  LookAt(state, NextLook(state, held_back));
}

void Handle(ClusterState& state, const LinkMeasured& event, Actions& out) {
  const LinkProbe* probe = Find(state, event.probe, event.device);
  if (probe == nullptr || event.small_ns <= 0 || event.bytes_per_second <= 0) return;
  LinkRecord& link = state.links.at({probe->a, probe->b});
  const bool periodic = state.options.link_probe == LinkProbing::kPeriodic;
  link.small_ns = event.small_ns;
  link.bytes_per_second = event.bytes_per_second;
  link.measured_at = state.now;
  link.due = periodic ? state.now + state.options.probe_again : kNever;
  link.back_off = {};
  link.why_not.clear();
  out.push_back(Tell{Name(state, link.a),
                     absl::StrCat("link to ", Name(state, link.b), " measured: ", link.bytes_per_second / 1000000,
                                  " MB/s, a small message in ", (link.small_ns + 500) / 1000, " us")});
  state.probes.erase(event.probe);
  LookBefore(state, state.now);
  LookForMovesSoon(state);
}

// Both ranks of a probe that fails say so; the second finds it gone, which is no news.
void Handle(ClusterState& state, const LinkProbeFailed& event, Actions& out) {
  const LinkProbe* found = Find(state, event.probe, event.device);
  if (found == nullptr) return;
  const LinkProbe probe = *found;
  Fail(state, probe, absl::StrCat(Name(state, event.device), ": ", event.message), out);
  LookBefore(state, state.now);
}

}  // namespace tandem::core
