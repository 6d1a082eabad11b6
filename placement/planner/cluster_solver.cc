#include "placement/planner/cluster_solver.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "placement/planner/local_search.h"
#include "placement/planner/part_solver.h"

namespace tandem::placement {
namespace {

class ClusterSolver {
 public:
  ClusterSolver(const Parts& parts, const std::vector<PartState>& states, const std::vector<ClusterItem>& items,
                Objective objective)
      : parts_(parts),
        states_(states),
        items_(items),
        objective_(objective),
        solver_(parts, items, solution_.best_ns, objective) {
    FindBest();
  }

  ClusterSolution Run() {
    solution_.placed.assign(items_.size(), 0);
    solution_.candidates.assign(items_.size(), 0);
    if (parts_.parts.size() == 1) {
      SolveOne();
    } else {
      PlaceAll();
      SolveAgain();
    }
    std::sort(solution_.groups.begin(), solution_.groups.end(), [](const ClusterGroup& a, const ClusterGroup& b) {
      return std::tuple(a.item, a.where.part, LowestOf(a.where.set)) <
             std::tuple(b.item, b.where.part, LowestOf(b.where.set));
    });
    for (size_t i = 0; i < items_.size(); ++i) {
      solution_.cost.unplaced += items_[i].replicas - solution_.placed[i];
      solution_.bound_ns += solution_.placed[i] * solution_.best_ns[i];
    }
    if (parts_.parts.size() > 1) {
      // Nothing can be better than every group at the best of its shape.
      solution_.exact = solution_.cost.unplaced == 0 && solution_.cost.sum_ns <= solution_.bound_ns;
    } else if (solution_.exact) {
      solution_.bound_ns = std::max(solution_.bound_ns, solution_.cost.sum_ns);
    }
    return std::move(solution_);
  }

 private:
  // The least communication time of each item's shape on any kind of part, were all free.
  void FindBest() {
    for (const ClusterItem& item : items_) {
      int64_t best = item.ranks == 1 ? 0 : INT64_MAX;
      for (const auto& kind : parts_.kinds) {
        if (item.ranks == 1) break;
        DeviceSet large = 0;
        for (int d = 0; d < kind->host.size(); ++d) {
          if (solver_.CapOf(item, kind->host.devices[d]) >= item.least_bytes) large |= DeviceSet{1} << d;
        }
        for (const DeviceSet set : SetsOf(large, item.ranks)) {
          best = std::min(best, kind->scores.Cost(set, item.workload));
        }
      }
      solution_.best_ns.push_back(best == INT64_MAX ? 0 : best);
    }
  }

  void SolveOne() {
    PartKind& kind = *parts_.parts.front().kind;
    std::vector<HostItem> items;
    for (size_t i = 0; i < items_.size(); ++i)
      items.push_back(solver_.ItemOn(i, 0, states_.front(), items_[i].replicas));
    const HostSolution found =
        SolveHost(kind.scores, kind.residual, items, states_.front().free, states_.front().foreign, objective_);
    for (const HostGroup& group : found.groups) solution_.groups.push_back({group.item, {0, group.set}});
    solution_.placed = found.placed;
    solution_.cost = found.cost;
    solution_.cost.unplaced = 0;  // counted by Run
    solution_.exact = found.exact && !parts_.split;
    for (size_t i = 0; i < items_.size(); ++i) {
      solution_.candidates[i] =
          static_cast<int>(SetsOf(Eligible(items[i], states_.front().free), items[i].ranks).size());
    }
  }

  static DeviceSet Eligible(const HostItem& item, DeviceSet free) {
    DeviceSet eligible = 0;
    for (size_t d = 0; d < item.spare.size(); ++d) {
      if (item.spare[d] >= 0) eligible |= DeviceSet{1} << d;
    }
    return eligible & free;
  }

  // ---- replica by replica
  // ----------------------------------------------------------------------------------------------

  // Parts of one kind with the same free devices, memory and neighbours.
  struct Class {
    absl::btree_set<int> parts;
    struct Answer {
      bool known = false;
      std::optional<DeviceSet> set;
      PlanCost cost;
      int64_t lost = 0;  // of the residual value
    };
    std::vector<Answer> answers;  // by item
  };

  // Enters the part, in its present state, into its class.
  void Enter(int part) {
    const std::string key = solver_.KeyOf(part, now_[part]);
    const auto [it, news] = class_of_.try_emplace(key, classes_.size());
    if (news) {
      classes_.emplace_back();
      classes_.back().answers.resize(items_.size());
    }
    classes_[it->second].parts.insert(part);
  }

  const Class::Answer& AnswerOf(Class& in, size_t item) {
    Class::Answer& answer = in.answers[item];
    if (answer.known) return answer;
    answer.known = true;
    const int part = *in.parts.begin();
    PartKind& kind = *parts_.parts[part].kind;
    const PartState& state = now_[part];
    const HostItem on = solver_.ItemOn(item, part, states_[part], 1);
    const HostSolution found =
        SolveHost(kind.scores, kind.residual, absl::MakeConstSpan(&on, 1), state.free, state.foreign, objective_);
    solution_.candidates[item] += found.candidates * static_cast<int>(in.parts.size());
    if (found.groups.empty()) return answer;
    answer.set = found.groups.front().set;
    answer.cost = found.cost;
    answer.lost = kind.residual.Of(state.free) - found.cost.residual;
    answer.cost.residual = -answer.lost;
    return answer;
  }

  void PlaceAll() {
    now_ = states_;
    for (size_t part = 0; part < parts_.parts.size(); ++part) Enter(static_cast<int>(part));
    std::vector<size_t> order(items_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const auto hard = [&](size_t i) {
        return std::tuple(-items_[i].priority, -items_[i].ranks, -items_[i].least_bytes);
      };
      return hard(a) < hard(b);
    });
    for (const size_t item : order) {
      while (solution_.placed[item] < items_[item].replicas && PlaceNext(item)) ++solution_.placed[item];
    }
  }

  bool PlaceNext(size_t item) {
    size_t best = classes_.size();
    for (size_t c = 0; c < classes_.size(); ++c) {
      if (classes_[c].parts.empty() || !AnswerOf(classes_[c], item).set) continue;
      if (best == classes_.size()) {
        best = c;
        continue;
      }
      const PlanCost& mine = classes_[c].answers[item].cost;
      const PlanCost& theirs = classes_[best].answers[item].cost;
      const bool lower = *classes_[c].parts.begin() < *classes_[best].parts.begin();
      if (Better(mine, theirs, objective_) || (!Better(theirs, mine, objective_) && lower)) best = c;
    }
    if (best == classes_.size()) return false;
    const int part = *classes_[best].parts.begin();
    const DeviceSet set = *classes_[best].answers[item].set;
    classes_[best].parts.erase(part);
    solution_.groups.push_back({static_cast<int>(item), {part, set}});
    PartState& state = now_[part];
    state.free &= ~set;
    if (CountOf(set) > 1) {
      const auto& crossings = parts_.parts[part].kind->scores.RingOf(set).crossings;
      state.foreign.resize(std::max(state.foreign.size(), crossings.size()), 0);
      for (size_t e = 0; e < crossings.size(); ++e) state.foreign[e] += crossings[e];
    }
    Enter(part);
    return true;
  }

  // ---- each part as a whole
  // --------------------------------------------------------------------------------------------

  void SolveAgain() {
    Spread spread(parts_.parts.size(), std::vector<int>(items_.size(), 0));
    for (const ClusterGroup& group : solution_.groups) ++spread[group.where.part][group.item];
    TakeSpread(spread);
    std::vector<int> missing;
    int64_t bound = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      missing.push_back(items_[i].replicas - solution_.placed[i]);
      bound += solution_.placed[i] * solution_.best_ns[i];
    }
    const bool all = std::all_of(missing.begin(), missing.end(), [](int n) { return n == 0; });
    if (all && solution_.cost.sum_ns <= bound) return;  // nothing can be better
    ImproveSpread(solver_, states_, items_, objective_, spread, missing);
    for (size_t i = 0; i < items_.size(); ++i) solution_.placed[i] = items_[i].replicas - missing[i];
    TakeSpread(spread);
  }

  void TakeSpread(const Spread& spread) {
    solution_.groups.clear();
    solution_.cost = {};
    for (size_t part = 0; part < spread.size(); ++part) {
      if (std::all_of(spread[part].begin(), spread[part].end(), [](int n) { return n == 0; })) continue;
      const PartSolver::Answer& answer = solver_.Solve(static_cast<int>(part), states_[part], spread[part]);
      CHECK(answer.fits) << "part " << part << " does not hold what it was given";
      PlanCost cost = answer.cost;
      cost.residual = answer.residual;
      Add(cost);
      for (const HostGroup& group : answer.groups) {
        solution_.groups.push_back({group.item, {static_cast<int>(part), group.set}});
      }
    }
  }

  void Add(const PlanCost& cost) {
    PlanCost& sum = solution_.cost;
    sum.worst_ratio_permille = std::max(sum.worst_ratio_permille, cost.worst_ratio_permille);
    sum.sum_ns += cost.sum_ns;
    sum.moved_bytes += cost.moved_bytes;
    sum.residual += cost.residual;
    sum.waste_bytes += cost.waste_bytes;
    sum.numa_crossings += cost.numa_crossings;
  }

  const Parts& parts_;
  const std::vector<PartState>& states_;
  const std::vector<ClusterItem>& items_;
  const Objective objective_;
  ClusterSolution solution_;
  PartSolver solver_;
  std::vector<PartState> now_;
  std::vector<Class> classes_;
  std::map<std::string, size_t> class_of_;
};

}  // namespace

ClusterSolution SolveCluster(const Parts& parts, const std::vector<PartState>& states,
                             const std::vector<ClusterItem>& items, Objective objective) {
  CHECK_EQ(parts.parts.size(), states.size());
  return ClusterSolver(parts, states, items, objective).Run();
}

}  // namespace tandem::placement
