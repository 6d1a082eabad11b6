// What a drain would do, before it does it: what --dry-run prints, what a drain says first, and what the core itself
// goes by when it refuses. Pure: reads the state and changes nothing.
#ifndef TANDEM_SCHEDULER_CORE_DRAIN_PREVIEW_H_
#define TANDEM_SCHEDULER_CORE_DRAIN_PREVIEW_H_

#include <string>
#include <vector>

#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// What it means for one model.
struct ModelEffect {
  ModelId model;
  int ready = 0;    // replicas that serve now
  int staying = 0;  // of which are not taken
  // Where replacements would form, while what they replace still serves.
  std::vector<std::vector<DeviceId>> replacements;
  int coming = 0;       // replicas that form or load already, or leave and would be taken back
  std::string no_room;  // why there are fewer replacements than replicas taken; empty when there are as many
};

struct DrainPreview {
  Reason refused = Reason::kNone;
  std::string why;  // of the refusal, or what the operator asked for: "drain of nodes/a/devices/0: new fan"
  std::vector<DeviceId> devices;
  std::vector<GroupId> groups;  // that leave service: of these devices, each once
  int requests = 0;             // that run there
  std::vector<ModelEffect> models;
};
DrainPreview PreviewDrain(const ClusterState& state, const DrainRequested& event);

// "chat: 1 of 2 stays; a replacement forms first on nodes/a/devices/3".
std::string Words(const ClusterState& state, const ModelEffect& effect);

// The live groups on the devices, each once.
std::vector<GroupId> GroupsOn(const ClusterState& state, const std::vector<DeviceId>& devices);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_DRAIN_PREVIEW_H_
