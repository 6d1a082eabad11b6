#include "scheduler/core/cache_report.h"

#include <algorithm>

namespace tandem::core {
namespace {

size_t Most(const ClusterState& state) { return static_cast<size_t>(std::max(0, state.options.prefix_entries)); }

void Store(ClusterState& state, const Group& group, uint64_t landmark) {
  if (!state.At(group.model).prefixes.Store(landmark, group.id, Most(state))) ++state.counters.prefixes_dropped;
}

void Note(ClusterState& state, Adoption& adoption, const CacheChanged& event) {
  if (event.whole) adoption.prefixes.clear();
  for (uint64_t landmark : event.evicted) adoption.prefixes.erase(landmark);
  for (uint64_t landmark : event.stored) {
    if (adoption.prefixes.size() < Most(state)) adoption.prefixes.insert(landmark);
  }
}

}  // namespace

void Handle(ClusterState& state, const CacheChanged& event, Actions&) {
  const auto adoption = state.adoptions.find(event.group);
  if (adoption != state.adoptions.end() && adoption->second.epoch == event.epoch) {
    return Note(state, adoption->second, event);
  }
  const Group* group = state.Find(event.group);
  if (group == nullptr || group->epoch != event.epoch || group->Rank0() != event.device || !group->InService()) return;
  PrefixIndex& prefixes = state.At(group->model).prefixes;
  if (event.whole) prefixes.ForgetStored(group->id);
  for (uint64_t landmark : event.evicted) prefixes.Evict(landmark, group->id);
  for (uint64_t landmark : event.stored) Store(state, *group, landmark);
}

void TakeCache(ClusterState& state, const Group& group, const Adoption& adoption) {
  for (uint64_t landmark : adoption.prefixes) Store(state, group, landmark);
}

}  // namespace tandem::core
