#include "scheduler/queue_positions.h"

#include <algorithm>
#include <utility>

namespace tandem::scheduler {

Places PlacesOf(const core::ClusterState& state, core::ModelId id) {
  const core::Model& model = state.At(id);
  return model.queue.Places(model.outputs.P90(state.options.default_output));
}

absl::flat_hash_map<core::Serial, uint32_t> AheadOfEach(Places places) {
  std::sort(places.begin(), places.end());
  absl::flat_hash_map<core::Serial, uint32_t> ahead;
  ahead.reserve(places.size());
  for (uint32_t i = 0; i < places.size(); ++i) ahead[places[i].serial] = i;
  return ahead;
}

void StreamPositions::Take(const core::ClusterState& state,
                           const std::vector<std::shared_ptr<RequestStream>>& streams) {
  for (const auto& stream : streams) {
    const core::Request* request = state.Find(stream->facts().id);
    if (request == nullptr || !request->Waits()) continue;
    waiters_.push_back({stream, request->model, request->serial});
    const auto [places, fresh] = places_.try_emplace(request->model);
    if (fresh) places->second = PlacesOf(state, request->model);
  }
}

void StreamPositions::Tell() {
  std::map<core::ModelId, absl::flat_hash_map<core::Serial, uint32_t>> ahead;
  for (auto& [model, places] : places_) ahead[model] = AheadOfEach(std::move(places));
  for (const Waiter& waiter : waiters_) {
    const auto& of_model = ahead.at(waiter.model);
    const auto it = of_model.find(waiter.serial);
    if (it != of_model.end()) waiter.stream->SetQueuePosition(it->second);
  }
}

}  // namespace tandem::scheduler
