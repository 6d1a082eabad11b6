#include "placement/planner/part_solver.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tandem::placement {

HostItem PartSolver::ItemOn(size_t i, int part, const PartState& state, int replicas) const {
  const ClusterItem& item = items_[i];
  const Host& host = parts_.parts[part].kind->host;
  HostItem on;
  on.ranks = item.ranks;
  on.replicas = replicas;
  on.priority = item.priority;
  on.workload = item.workload;
  on.best_ns = best_ns_[i];
  on.rank_bytes = item.rank_bytes;
  for (int d = 0; d < host.size(); ++d) {
    on.spare.push_back(std::min(state.available[d], CapOf(item, host.devices[d])) - item.least_bytes);
  }
  for (const PartSet& running : item.running) {
    if (running.part == part) on.running.push_back(running.set);
  }
  return on;
}

std::string PartSolver::KeyOf(int part, const PartState& state) const {
  std::string key = absl::StrCat(reinterpret_cast<uintptr_t>(parts_.parts[part].kind), ":", state.free, ":");
  for (const int64_t bytes : state.available) absl::StrAppend(&key, bytes, ",");
  for (const int crossings : state.foreign) absl::StrAppend(&key, "/", crossings);
  for (size_t i = 0; i < items_.size(); ++i) {
    for (const PartSet& running : items_[i].running) {
      if (running.part == part) absl::StrAppend(&key, "+", i, "@", running.set);
    }
  }
  return key;
}

const PartSolver::Answer& PartSolver::Solve(int part, const PartState& state, const std::vector<int>& counts) {
  std::string key = KeyOf(part, state);
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > 0) absl::StrAppend(&key, "*", i, "=", counts[i]);
  }
  const auto [it, news] = answers_.try_emplace(std::move(key));
  Answer& answer = it->second;
  if (!news) return answer;
  PartKind& kind = *parts_.parts[part].kind;
  std::vector<HostItem> on;
  std::vector<int> index;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    on.push_back(ItemOn(i, part, state, counts[i]));
    index.push_back(static_cast<int>(i));
  }
  const HostSolution found = SolveHost(kind.scores, kind.residual, on, state.free, state.foreign, objective_);
  answer.fits = found.cost.unplaced == 0;
  answer.cost = found.cost;
  answer.residual = found.cost.residual;
  answer.cost.residual -= kind.residual.Of(state.free);
  answer.groups = found.groups;
  for (HostGroup& group : answer.groups) group.item = index[group.item];
  return answer;
}

}  // namespace tandem::placement
