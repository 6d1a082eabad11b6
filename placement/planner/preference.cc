#include "placement/planner/preference.h"

#include <algorithm>

#include "placement/planner/auto_degree.h"
#include "placement/planner/sharing.h"

namespace tandem::placement {
namespace {

bool Known(const ModelDemand& model) {
  return model.parameters > 0 && std::all_of(model.shapes.begin(), model.shapes.end(), [](const Shape& shape) {
           return !shape.impossible.empty() || shape.kv_bytes_per_token > 0;
         });
}

// The devices of a part that can be used, as if they were equal: the chip of the first, the least memory of all.
EqualDevices DevicesOf(const Topology& topology, const Demand& demand, const Part& part, size_t model) {
  EqualDevices devices;
  DeviceSet free = 0;
  for (size_t i = 0; i < part.devices.size(); ++i) {
    const DeviceRef ref{part.host, part.devices[i]};
    if (BlockOf(demand, ref) != Block::kNone) continue;
    const int64_t bytes =
        std::min(AvailableBytes(topology, demand, ref), CapBytes(topology, demand, static_cast<int>(model), ref));
    devices.usable_bytes = devices.count == 0 ? bytes : std::min(devices.usable_bytes, bytes);
    if (devices.count == 0) devices.chip = topology.hosts[ref.host].devices[ref.device].chip;
    ++devices.count;
    free |= DeviceSet{1} << i;
  }
  for (const Shape& shape : demand.models[model].shapes) {
    Ring best;
    if (shape.ranks > 1) {
      for (const DeviceSet set : SetsOf(free, shape.ranks)) {
        const Ring& ring = part.kind->scores.RingOf(set);
        if (best.order.empty() || ring.mbps > best.mbps) best = ring;
      }
    }
    devices.rings.push_back(std::move(best));
  }
  return devices;
}

}  // namespace

Preference PreferShapes(const Topology& topology, const Demand& demand, const Parts& parts, size_t model) {
  const ModelDemand& wanted = demand.models[model];
  Preference preference;
  if (Known(wanted)) {
    EqualDevices most;
    for (const Part& part : parts.parts) {
      if (static_cast<int>(part.devices.size()) <= most.count) continue;
      EqualDevices devices = DevicesOf(topology, demand, part, model);
      if (devices.count > most.count) most = std::move(devices);
    }
    if (most.count > 0) {
      std::vector<Option> options = PredictOptions(wanted, most);
      const int first = ChooseOption(options, wanted.goal);
      if (first >= 0) preference.sentence = ExplainChoice(options, first, wanted.goal);
      for (int best = first; best >= 0; best = ChooseOption(options, wanted.goal)) {
        const int shape = options[best].shape;
        preference.shapes.push_back(shape);
        options.erase(std::remove_if(options.begin(), options.end(), [&](const Option& o) { return o.shape == shape; }),
                      options.end());
      }
    }
  }
  for (size_t s = 0; s < wanted.shapes.size(); ++s) {
    const int shape = static_cast<int>(s);
    const bool there = std::find(preference.shapes.begin(), preference.shapes.end(), shape) != preference.shapes.end();
    if (!there && wanted.shapes[s].impossible.empty()) preference.shapes.push_back(shape);
  }
  return preference;
}

}  // namespace tandem::placement
