#include "scheduler/core/drain_preview.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/planning.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

bool Contains(const std::vector<GroupId>& groups, GroupId id) {
  return std::find(groups.begin(), groups.end(), id) != groups.end();
}

ModelEffect EffectOn(const ClusterState& state, const Model& model, const std::vector<GroupId>& leaving) {
  ModelEffect effect;
  effect.model = model.id;
  for (GroupId id : model.groups) {
    const Group& group = *state.Find(id);
    if (!group.InService()) continue;
    const bool stays = !Contains(leaving, id) && !group.leaving;
    if (group.state == GroupState::kReady) {
      ++effect.ready;
      effect.staying += stays;
    } else {
      // One that retires is taken back; one that a drain closed is not.
      effect.coming += stays && (group.state != GroupState::kDraining || group.retiring);
    }
  }
  return effect;
}

// Fills in where replacements would go, if the drain began now.
void PlanReplacements(const ClusterState& state, const DrainPreview& preview, std::map<ModelId, ModelEffect>& effects) {
  std::vector<int> wanted;
  for (const Model& model : state.models) {
    const auto effect = effects.find(model.id);
    const int there = effect == effects.end() ? state.Replicas(model) : effect->second.staying + effect->second.coming;
    wanted.push_back(model.blocked ? there : std::max(there, state.Wanted(model)));
  }
  const Planning planning = PlanAll(state, wanted, {.leaving = preview.groups, .drained = preview.devices});
  for (const placement::PlannedGroup& group : planning.plan.groups) {
    const auto effect = effects.find(ModelId{static_cast<uint32_t>(group.model)});
    if (group.kept >= 0 || effect == effects.end()) continue;
    std::vector<DeviceId>& devices = effect->second.replacements.emplace_back();
    for (const placement::DeviceRef& ref : group.devices) devices.push_back(planning.devices[ref.host][ref.device]);
  }
  for (auto& [id, effect] : effects) {
    const Model& model = state.At(id);
    const int there = effect.staying + effect.coming + static_cast<int>(effect.replacements.size());
    if (there >= state.Wanted(model)) continue;
    effect.no_room = model.blocked ? model.refused_why : WhyNot(state, model).sentence;
  }
}

}  // namespace

std::vector<GroupId> GroupsOn(const ClusterState& state, const std::vector<DeviceId>& devices) {
  std::set<GroupId> groups;
  for (DeviceId id : devices) groups.insert(state.At(id).groups.begin(), state.At(id).groups.end());
  return {groups.begin(), groups.end()};
}

DrainPreview PreviewDrain(const ClusterState& state, const DrainRequested& event) {
  DrainPreview preview;
  const auto refuse = [&](Reason reason, std::string why) {
    preview.refused = reason;
    preview.why = std::move(why);
    return preview;
  };
  if (event.group.has_value()) {
    if (!state.groups.contains(*event.group)) {
      return refuse(Reason::kNotFound, absl::StrCat(Name(*event.group), " does not serve"));
    }
    preview.groups = {*event.group};
  } else {
    for (DeviceId id : event.devices) {
      if (id.value >= state.devices.size()) {
        return refuse(Reason::kNotFound, absl::StrCat("there is no device ", id.value));
      }
    }
    preview.devices = event.devices;
    preview.groups = GroupsOn(state, event.devices);
  }
  std::map<ModelId, ModelEffect> effects;
  for (GroupId id : preview.groups) {
    const Group& group = *state.Find(id);
    preview.requests += static_cast<int>(group.requests.size());
    effects.try_emplace(group.model, EffectOn(state, state.At(group.model), preview.groups));
  }
  if (!effects.empty()) PlanReplacements(state, preview, effects);
  for (auto& [id, effect] : effects) preview.models.push_back(std::move(effect));
  preview.why = absl::StrCat("drain of ", event.group.has_value() ? Name(*event.group) : List(state, preview.devices),
                             event.reason.empty() ? "" : ": ", event.reason);
  if (event.force) return preview;
  for (const ModelEffect& effect : preview.models) {
    const bool takes_last = effect.ready > 0 && effect.staying == 0;
    if (!takes_last || effect.coming > 0 || !effect.replacements.empty()) continue;
    return refuse(
        Reason::kWouldLoseLastReplica,
        absl::StrCat("it would take the last ready replica of ", Name(state.At(effect.model)),
                     ", and there is no room for another: ", effect.no_room, "; force takes it all the same"));
  }
  return preview;
}

std::string Words(const ClusterState& state, const ModelEffect& effect) {
  std::string text = absl::StrCat(state.At(effect.model).spec.name, ": ", effect.staying, " of ", effect.ready, " ",
                                  effect.staying == 1 ? "stays" : "stay");
  if (effect.coming > 0) absl::StrAppend(&text, "; ", effect.coming, " more about to serve");
  for (const std::vector<DeviceId>& devices : effect.replacements) {
    absl::StrAppend(&text, "; a replacement forms first on ", List(state, devices, 8));
  }
  if (!effect.no_room.empty()) absl::StrAppend(&text, "; no room for a replacement: ", effect.no_room);
  return text;
}

}  // namespace tandem::core
