#include "scheduler/core/health.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/drain_preview.h"
#include "scheduler/core/group.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/link_probe.h"
#include "scheduler/core/quarantine.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

const HealthRule kTold;  // what no row knows

void Count(ClusterState& state, const std::string& code) {
  std::vector<HealthCount>& counts = state.counters.health;
  auto it = std::find_if(counts.begin(), counts.end(), [&](const HealthCount& count) { return count.code == code; });
  if (it == counts.end() && counts.size() < kMostHealthCounts) it = counts.insert(it, {code, 0});
  if (it == counts.end()) counts[kMostHealthCounts - 1].code = "other", it = counts.end() - 1;
  ++it->reports;
}

bool WantsQuarantine(HealthAction action) {
  return action == HealthAction::kQuarantine || action == HealthAction::kFence;
}

int TimesSlower(const Device& device) {
  int times = 1;
  for (const Ailment& ailment : device.ailments) {
    if (ailment.action == HealthAction::kSlow) times = std::max(times, ailment.times_slower);
  }
  return times;
}

Instant FirstEnd(const Device& device) {
  Instant first = kNever;
  for (const Ailment& ailment : device.ailments) first = std::min(first, ailment.until);
  return first;
}

// The ailments have changed: what they weigh, what they hide, when the next one ends.
void Apply(ClusterState& state, Device& device, bool trusted_links) {
  state.SetTimer(device.ailing_until, FirstEnd(device), TimerKind::kHealth, device.id.value);
  if (TrustsLinks(device) != trusted_links) {
    ForgetLinks(state, device.id);  // they were measured as another way
    LookAtLinksSoon(state);
    state.place_wanted = true;
  }
  if (const int times = TimesSlower(device); std::exchange(device.times_slower, times) != times) {
    for (GroupId id : device.groups) {
      Group& group = *state.Find(id);
      if (Reindex(state, group)) state.helped.insert(group.model);
    }
  }
}

// Removes the ailments that `over` is true of; true if there were any.
template <typename Over>
bool Remove(ClusterState& state, Device& device, Over over) {
  const bool trusted = TrustsLinks(device);
  if (std::erase_if(device.ailments, over) == 0) return false;
  Apply(state, device, trusted);
  return true;
}

std::string Headline(const HealthRule& rule, const HealthReported& event) {
  return absl::StrCat(event.code, rule.because.empty() ? "" : absl::StrCat(" (", rule.because, ")"),
                      event.message.empty() ? "" : ": ", event.message);
}

Duration CoolOffOf(const ClusterState& state, const HealthRule& rule) {
  return rule.cool_off.us > 0 ? rule.cool_off : state.options.quarantine_first;
}

void Cordon(ClusterState& state, Device& device, const std::string& what, Actions& out) {
  device.cordoned = true;
  device.reason = absl::StrCat(kByHealth, what);
  KeepSoon(state, device);
  state.place_wanted = true;
  out.push_back(Tell{Name(state, device.id), absl::StrCat("cordoned until an operator uncordons it: ", device.reason)});
}

// What is done of what the table wants.
HealthAction Drain(ClusterState& state, Device& device, const std::string& what, Actions& out) {
  DrainRequested wish;
  wish.devices = {device.id};
  const DrainPreview preview = PreviewDrain(state, wish);
  if (!state.settled || preview.refused == Reason::kNone) {
    // At once, so that nothing comes here while the operation is opened.
    device.cordoned = true;
    device.reason = absl::StrCat(kByHealth, what);
    KeepSoon(state, device);
    out.push_back(AskDrain{device.id, Name(state, device.id), device.reason, state.options.drain_deadline});
    return HealthAction::kDrain;
  }
  out.push_back(Tell{Name(state, device.id), absl::StrCat("not drained: ", preview.why)});
  Cordon(state, device, what, out);
  return HealthAction::kCordon;
}

void Confine(ClusterState& state, Device& device, const HealthRule& rule, const std::string& what, Actions& out) {
  if (!device.Quarantined()) return Quarantine(state, device, absl::StrCat(kByHealth, what), rule.cool_off, out);
  const Instant least = state.now + CoolOffOf(state, rule);
  if (device.quarantined_until >= least) return;
  state.SetTimer(device.quarantined_until, least, TimerKind::kQuarantine, device.id.value);
}

void EndGroups(ClusterState& state, Device& device, const std::string& what, Actions& out) {
  const std::vector<GroupId> groups = device.groups;
  for (GroupId id : groups) {
    Group* group = state.Find(id);
    // Nothing is wrong with the model, nor did a request do it.
    if (group != nullptr && group->ending != Ending::kAborting) {
      AbortNow(state, *group, Reason::kDraining, absl::StrCat(Name(state, device.id), " is fenced: ", what), out);
    }
  }
}

// Carries the row out, as far as it may be. Returns what was done.
HealthAction TakeOut(ClusterState& state, Device& device, const HealthRule& rule, const std::string& code,
                     const std::string& what, Actions& out) {
  const bool out_already = device.cordoned || device.drain_wanted || device.Quarantined();
  if (!out_already && !MayLeave(state, device, absl::StrCat("health ", code), out)) return HealthAction::kLog;
  state.place_wanted = true;
  switch (rule.action) {
    case HealthAction::kCordon:
      if (!device.cordoned) Cordon(state, device, what, out);
      return rule.action;
    case HealthAction::kDrain:
      return device.drain_wanted || WithdrawnByHealth(device) ? rule.action : Drain(state, device, what, out);
    default:
      Confine(state, device, rule, what, out);
      if (rule.action == HealthAction::kFence) EndGroups(state, device, what, out);
      return rule.action;
  }
}

}  // namespace

const HealthRule* RuleFor(const CoreOptions& options, absl::string_view code) {
  for (const HealthRule& rule : options.health) {
    absl::string_view pattern = rule.code;
    if (absl::ConsumeSuffix(&pattern, "*") ? absl::StartsWith(code, pattern) : code == pattern) return &rule;
  }
  return nullptr;
}

bool WithdrawnByHealth(const Device& device) { return device.cordoned && absl::StartsWith(device.reason, kByHealth); }

bool AilsToBeOut(const Device& device) {
  return std::any_of(device.ailments.begin(), device.ailments.end(),
                     [](const Ailment& ailment) { return ailment.until == kNever && WantsQuarantine(ailment.action); });
}

bool TrustsLinks(const Device& device) {
  return std::none_of(device.ailments.begin(), device.ailments.end(),
                      [](const Ailment& ailment) { return ailment.action == HealthAction::kDistrustLinks; });
}

void ForgetQuarantine(ClusterState& state, Device& device) {
  Remove(state, device, [](const Ailment& ailment) { return WantsQuarantine(ailment.action); });
}

void ForgetWithdrawal(ClusterState& state, Device& device) {
  Remove(state, device, [](const Ailment& ailment) { return ailment.action >= HealthAction::kCordon; });
}

void ForgetLasting(ClusterState& state, Device& device) {
  Remove(state, device, [](const Ailment& ailment) { return ailment.until == kNever; });
}

void FenceAdopted(ClusterState& state, GroupId id, Actions& out) {
  Group* group = state.Find(id);
  if (group == nullptr || group->ending != Ending::kNo) return;
  for (const Member& member : group->members) {
    for (const Ailment& ailment : state.At(member.device).ailments) {
      if (ailment.action != HealthAction::kFence) continue;
      const std::string name = Name(state, member.device);
      return AbortNow(state, *group, Reason::kDraining, absl::StrCat(name, " is fenced: ", ailment.code), out);
    }
  }
}

void Handle(ClusterState& state, const HealthReported& event, Actions& out) {
  Device* const device = state.Find(event.device);
  if (device == nullptr || !device->attached || device->incarnation != event.incarnation) {
    ++state.counters.stale_workers;
    return;
  }
  const auto of_code = [&](const Ailment& ailment) { return ailment.code == event.code; };
  const std::string name = Name(state, device->id);
  if (event.cleared) {
    if (Remove(state, *device, of_code)) out.push_back(Tell{name, absl::StrCat("health ", event.code, " is over")});
    return;
  }
  Count(state, event.code);
  const HealthRule* const row = RuleFor(state.options, event.code);
  const HealthRule& rule = row == nullptr ? kTold : *row;
  if (rule.action == HealthAction::kNone) return;

  const bool trusted = TrustsLinks(*device);
  std::vector<Ailment>& ailments = device->ailments;
  auto known = std::find_if(ailments.begin(), ailments.end(), of_code);
  if (known != ailments.end() && known->until == kNever && event.lasting) return;  // said again with a new line
  Ailment ailment;
  ailment.code = event.code;
  ailment.message = Headline(rule, event);
  ailment.times_slower = rule.times_slower;
  ailment.since = state.now;
  if (!event.lasting) ailment.until = state.now + CoolOffOf(state, rule);
  out.push_back(Tell{name, absl::StrCat("health ", ailment.message)});
  const bool out_of_service = rule.action >= HealthAction::kCordon;
  ailment.action = out_of_service ? TakeOut(state, *device, rule, ailment.code, ailment.message, out) : rule.action;
  std::erase_if(ailments, of_code);
  if (ailments.size() >= kMostAilments) ailments.erase(ailments.begin());
  // Such a one goes with the quarantine, not before.
  if (WantsQuarantine(ailment.action) && ailment.until != kNever) ailment.until = device->quarantined_until;
  // Only an operator's word ends these.
  if (ailment.action == HealthAction::kCordon || ailment.action == HealthAction::kDrain) ailment.until = kNever;
  ailments.push_back(std::move(ailment));
  Apply(state, *device, trusted);
}

void OnHealthTimer(ClusterState& state, Device& device, Actions& out) {
  device.ailing_until = kNever;
  for (const Ailment& ailment : device.ailments) {
    if (ailment.until <= state.now && ailment.action > HealthAction::kLog) {
      out.push_back(Tell{Name(state, device.id), absl::StrCat("health ", ailment.code, " counts no longer")});
    }
  }
  Remove(state, device, [&](const Ailment& ailment) { return ailment.until <= state.now; });
}

std::vector<std::string> DescribeHealth(const ClusterState& state, const Device& device) {
  return DescribeAilments(device.ailments, state.now);
}

std::vector<std::string> DescribeAilments(const std::vector<Ailment>& ailments, Instant now) {
  static constexpr const char* kWords[] = {"counted",  "told",        "gets less work", "its NVLinks do not count",
                                           "cordoned", "quarantined", "drained",        "fenced"};
  std::vector<std::string> lines;
  for (const Ailment& ailment : ailments) {
    lines.push_back(absl::StrCat(
        ailment.message, "; ", kWords[static_cast<int>(ailment.action)], "; ", Words(now - ailment.since), " ago",
        ailment.until == kNever ? "" : absl::StrCat(", counts ", Words(ailment.until - now), " more")));
  }
  return lines;
}

std::vector<std::string> CheckHealth(const ClusterState& state, const Device& device) {
  std::vector<std::string> wrong;
  if (device.ailments.size() > kMostAilments) wrong.push_back(" has more ailments than may be");
  if (device.times_slower != TimesSlower(device)) wrong.push_back(" is not weighed by its ailments");
  if (device.ailing_until != FirstEnd(device)) wrong.push_back(" has an ailment that ends unseen");
  for (size_t i = 0; i < device.ailments.size(); ++i) {
    const Ailment& ailment = device.ailments[i];
    for (size_t j = 0; j < i; ++j) {
      if (device.ailments[j].code == ailment.code) wrong.push_back(absl::StrCat(" has ", ailment.code, " twice"));
    }
    if (WantsQuarantine(ailment.action) && !device.Quarantined())
      wrong.push_back(absl::StrCat(" has ", ailment.code, " and is in service"));
    const bool cordoned = ailment.action == HealthAction::kCordon || ailment.action == HealthAction::kDrain;
    if (cordoned && !device.cordoned) wrong.push_back(absl::StrCat(" has ", ailment.code, " and is not cordoned"));
    if (ailment.action != HealthAction::kFence) continue;
    for (GroupId id : device.groups) {
      const Group* group = state.Find(id);
      if (group != nullptr && group->ending == Ending::kNo)
        wrong.push_back(absl::StrCat(" is fenced and in ", Name(id)));
    }
  }
  return wrong;
}

}  // namespace tandem::core
