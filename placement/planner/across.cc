#include "placement/planner/across.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "placement/planner/sharing.h"

namespace tandem::placement {
namespace {

// One host's share of a group, the best that it can give now.
struct Share {
  int part = 0;
  DeviceSet set = 0;
  int64_t ns = 0;
};

class Across {
 public:
  Across(const Topology& topology, const Demand& demand, const Parts& parts, std::vector<PartState> states)
      : topology_(topology), demand_(demand), parts_(parts), states_(std::move(states)) {}

  std::optional<PlannedGroup> Place(int model, int shape) {
    const int ranks = demand_.models[model].shapes[shape].ranks;
    for (size_t hosts = 2; hosts <= parts_.parts.size(); ++hosts) {
      if (ranks % static_cast<int>(hosts) != 0) continue;
      for (const auto& kind : parts_.kinds) {
        std::vector<Share> shares = SharesOf(kind.get(), model, shape, ranks / static_cast<int>(hosts));
        if (shares.size() < hosts) continue;
        shares.resize(hosts);
        return Take(model, shape, shares);
      }
    }
    return std::nullopt;
  }

 private:
  // Of every part of the kind that can carry `ranks`; the fastest first, then as they stand.
  std::vector<Share> SharesOf(PartKind* kind, int model, int shape, int ranks) {
    std::vector<Share> shares;
    if (ranks > kind->host.size()) return shares;
    const ModelDemand& wanted = demand_.models[model];
    for (size_t p = 0; p < parts_.parts.size(); ++p) {
      const Part& part = parts_.parts[p];
      if (part.kind != kind) continue;
      HostItem item;
      item.ranks = ranks;
      item.workload = wanted.workload;
      for (size_t d = 0; d < part.devices.size(); ++d) {
        const int64_t cap = CapBytes(topology_, demand_, model, {part.host, part.devices[d]});
        item.spare.push_back(std::min(states_[p].available[d], cap) - wanted.shapes[shape].Least());
      }
      const HostSolution found =
          SolveHost(kind->scores, kind->residual, absl::MakeConstSpan(&item, 1), states_[p].free, states_[p].foreign);
      if (!found.groups.empty()) shares.push_back({static_cast<int>(p), found.groups[0].set, found.cost.sum_ns});
    }
    std::stable_sort(shares.begin(), shares.end(), [](const Share& a, const Share& b) { return a.ns < b.ns; });
    return shares;
  }

  PlannedGroup Take(int model, int shape, const std::vector<Share>& shares) {
    PlannedGroup group;
    group.model = model;
    group.shape = shape;
    std::vector<HostPart> hosts;
    for (const Share& share : shares) {
      const Part& part = parts_.parts[share.part];
      HostPart& host = hosts.emplace_back();
      host.host = &topology_.hosts[part.host];
      for (const int device : MembersOf(share.set)) host.members.push_back(part.devices[device]);
      for (const int device : BestRing(*host.host, host.members).order) group.devices.push_back({part.host, device});
      states_[share.part].free &= ~share.set;
    }
    group.ring = BestRingAcross(hosts);
    group.communication_ns = CommunicationNsPerToken(group.ring, static_cast<int>(group.devices.size()),
                                                     demand_.models[model].workload, static_cast<int>(shares.size()));
    group.best_ns = group.communication_ns;
    return group;
  }

  const Topology& topology_;
  const Demand& demand_;
  const Parts& parts_;
  std::vector<PartState> states_;
};

}  // namespace

bool CouldSpan(const std::vector<int>& large, int ranks) {
  for (size_t hosts = 2; hosts <= large.size(); ++hosts) {
    if (ranks % static_cast<int>(hosts) != 0) continue;
    const int each = ranks / static_cast<int>(hosts);
    const auto enough = std::count_if(large.begin(), large.end(), [each](int n) { return n >= each; });
    if (enough >= static_cast<int64_t>(hosts)) return true;
  }
  return false;
}

void PlaceAcross(const Topology& topology, const Demand& demand, const Parts& parts, const std::vector<int>& choice,
                 std::vector<PartState> states, Plan& plan) {
  int largest = 0;
  for (const auto& kind : parts.kinds) largest = std::max(largest, kind->host.size());
  std::vector<int> order(demand.models.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return demand.models[a].priority > demand.models[b].priority; });
  Across across(topology, demand, parts, std::move(states));
  for (const int m : order) {
    if (choice[m] < 0 || demand.models[m].shapes[choice[m]].ranks <= largest) continue;
    auto there =
        std::count_if(plan.groups.begin(), plan.groups.end(), [m](const PlannedGroup& g) { return g.model == m; });
    for (; there < demand.models[m].replicas; ++there) {
      auto group = across.Place(m, choice[m]);
      if (!group) break;
      plan.groups.push_back(*std::move(group));
    }
  }
}

}  // namespace tandem::placement
