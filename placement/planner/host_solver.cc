#include "placement/planner/host_solver.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "placement/planner/host_candidates.h"
#include "placement/planner/host_counts.h"
#include "placement/planner/host_search.h"
#include "placement/planner/host_tables.h"

namespace tandem::placement {

PlanCost CostOf(HostScores& scores, ResidualValue& residual, absl::Span<const HostItem> items,
                absl::Span<const HostGroup> groups, DeviceSet free, absl::Span<const int> foreign) {
  std::vector<int> total(scores.host().edges.size(), 0);
  std::copy_n(foreign.begin(), std::min(foreign.size(), total.size()), total.begin());
  for (const HostGroup& group : groups) {
    if (CountOf(group.set) < 2) continue;
    const auto& crossings = scores.RingOf(group.set).crossings;
    for (size_t e = 0; e < crossings.size(); ++e) total[e] += crossings[e];
  }
  PlanCost cost;
  DeviceSet used = 0;
  std::vector<int> beside;
  for (const HostGroup& group : groups) {
    const HostItem& item = items[group.item];
    int64_t ns = 0;
    if (CountOf(group.set) > 1) {
      beside = total;
      const auto& own = scores.RingOf(group.set).crossings;
      for (size_t e = 0; e < own.size(); ++e) beside[e] -= own[e];
      ns = scores.CostBeside(group.set, item.workload, beside);
    }
    cost.worst_ratio_permille = std::max(cost.worst_ratio_permille, RatioOf(ns, item.best_ns));
    cost.sum_ns += ns;
    cost.moved_bytes += MovedOf(item, group.set);
    cost.waste_bytes += WasteOf(item, group.set);
    cost.numa_crossings += scores.NumaCrossings(group.set);
    used |= group.set;
  }
  cost.residual = residual.Of(free & ~used);
  return cost;
}

bool Better(const PlanCost& a, const PlanCost& b, Objective objective) {
  const auto order = [objective](const PlanCost& c) {
    const int64_t first = objective == Objective::kLeastMoved ? c.moved_bytes : 0;
    const int64_t ratio = objective == Objective::kLeastMoved ? 0 : c.worst_ratio_permille;
    return std::tuple(c.unplaced, first, ratio, c.sum_ns, c.moved_bytes, -c.residual, c.waste_bytes, c.numa_crossings);
  };
  return order(a) < order(b);
}

HostSolution SolveHost(HostScores& scores, ResidualValue& residual, absl::Span<const HostItem> items, DeviceSet free,
                       absl::Span<const int> foreign, Objective objective) {
  const HostCandidates candidates(scores, items, free, foreign);
  HostSolution solution;
  solution.candidates = candidates.count();
  solution.placed = ChooseCounts(candidates);
  solution.groups = ComposeGroups(candidates, residual, solution.placed, objective);
  if (candidates.ShareEdges()) {
    SearchResult found = SearchGroups(candidates, scores, residual, foreign, objective, std::move(solution.groups));
    solution.groups = std::move(found.groups);
    solution.exact = found.exact;
  }
  solution.cost = CostOf(scores, residual, items, solution.groups, free, foreign);
  for (size_t i = 0; i < items.size(); ++i) solution.cost.unplaced += items[i].replicas - solution.placed[i];
  return solution;
}

}  // namespace tandem::placement
