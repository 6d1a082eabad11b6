#include "placement/planner/local_search.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::placement {
namespace {

constexpr int kMostSolved = 400;    // answers of a part that had to be computed
constexpr int kMostTrials = 20000;  // steps that were looked at

class LocalSearch {
 public:
  LocalSearch(PartSolver& solver, const std::vector<PartState>& states, const std::vector<ClusterItem>& items,
              Objective objective, Spread& spread, std::vector<int>& missing)
      : solver_(solver),
        states_(states),
        items_(items),
        objective_(objective),
        spread_(spread),
        missing_(missing),
        solved_before_(solver.solved()) {}

  void Run() {
    for (size_t part = 0; part < spread_.size(); ++part) {
      costs_.push_back(CostOf(static_cast<int>(part), spread_[part]));
      Add(costs_.back(), +1);
    }
    while (Step()) {
    }
  }

 private:
  static constexpr int kNobody = -1;

  // One replica of `from_item` leaves part `from` for part `to`, and one of `to_item` comes back: nobody, where it is
  // only a move; to `from` comes a missing one of `added`, where there is one.
  struct Change {
    int from = 0, to = 0;
    int from_item = 0, to_item = kNobody, added = kNobody;
  };

  bool Spent() const { return trials_ >= kMostTrials || solver_.solved() - solved_before_ >= kMostSolved; }

  PlanCost CostOf(int part, const std::vector<int>& counts) {
    if (std::accumulate(counts.begin(), counts.end(), 0) == 0) return {};
    const PartSolver::Answer& answer = solver_.Solve(part, states_[part], counts);
    PlanCost cost = answer.cost;
    cost.unplaced = answer.fits ? 0 : 1;
    return cost;
  }

  // Of the whole, as it is.
  void SetCost(int part, const PlanCost& cost) {
    Add(costs_[part], -1);
    costs_[part] = cost;
    Add(cost, +1);
  }
  void Add(const PlanCost& cost, int sign) {
    sum_.sum_ns += sign * cost.sum_ns;
    sum_.moved_bytes += sign * cost.moved_bytes;
    sum_.residual += sign * cost.residual;
    sum_.waste_bytes += sign * cost.waste_bytes;
    sum_.numa_crossings += sign * cost.numa_crossings;
    ratios_[cost.worst_ratio_permille] += sign;
  }
  PlanCost Whole() const {
    PlanCost whole = sum_;
    whole.unplaced = std::accumulate(missing_.begin(), missing_.end(), 0);
    const auto worst =
        std::find_if(ratios_.rbegin(), ratios_.rend(), [](const auto& ratio) { return ratio.second > 0; });
    whole.worst_ratio_permille = worst == ratios_.rend() ? 0 : worst->first;
    return whole;
  }

  // The lowest part of each sort: equal state, equal replicas. Two of a sort, so that they can trade with each other.
  std::vector<int> Sorts() const {
    std::map<std::string, int> seen;
    std::vector<int> parts;
    for (size_t part = 0; part < spread_.size(); ++part) {
      std::string key = solver_.KeyOf(static_cast<int>(part), states_[part]);
      for (const int count : spread_[part]) absl::StrAppend(&key, "*", count);
      if (++seen[key] <= 2) parts.push_back(static_cast<int>(part));
    }
    return parts;
  }

  // Makes the first change that is for the better. False: there is none, or the time is up.
  bool Step() {
    const std::vector<int> parts = Sorts();
    const int count = static_cast<int>(items_.size());
    for (const int from : parts) {
      for (int item = 0; item < count; ++item) {
        if (spread_[from][item] == 0) continue;
        for (const int to : parts) {
          if (to == from) continue;
          for (int added = 0; added < count; ++added) {
            if (missing_[added] > 0 && Try({from, to, item, kNobody, added})) return true;
          }
          if (Try({from, to, item})) return true;
          for (int back = 0; back < count && from < to; ++back) {
            if (back != item && spread_[to][back] > 0 && Try({from, to, item, back})) return true;
          }
          if (Spent()) return false;
        }
      }
    }
    return false;
  }

  bool Try(const Change& change) {
    ++trials_;
    std::vector<int> from = spread_[change.from], to = spread_[change.to];
    --from[change.from_item], ++to[change.from_item];
    if (change.to_item != kNobody) ++from[change.to_item], --to[change.to_item];
    if (change.added != kNobody) ++from[change.added];
    const PlanCost of_from = CostOf(change.from, from), of_to = CostOf(change.to, to);
    if (of_from.unplaced > 0 || of_to.unplaced > 0) return false;
    const PlanCost now = Whole(), from_was = costs_[change.from], to_was = costs_[change.to];
    const auto take = [&](const PlanCost& at_from, const PlanCost& at_to, int more) {
      SetCost(change.from, at_from);
      SetCost(change.to, at_to);
      if (change.added != kNobody) missing_[change.added] += more;
    };
    take(of_from, of_to, -1);
    if (!Better(Whole(), now, objective_)) {
      take(from_was, to_was, +1);
      return false;
    }
    spread_[change.from] = std::move(from);
    spread_[change.to] = std::move(to);
    return true;
  }

  PartSolver& solver_;
  const std::vector<PartState>& states_;
  const std::vector<ClusterItem>& items_;
  const Objective objective_;
  Spread& spread_;
  std::vector<int>& missing_;
  const int solved_before_;
  std::vector<PlanCost> costs_;    // by part
  PlanCost sum_;                   // of what adds up
  std::map<int64_t, int> ratios_;  // parts by their worst ratio
  int trials_ = 0;
};

}  // namespace

void ImproveSpread(PartSolver& solver, const std::vector<PartState>& states, const std::vector<ClusterItem>& items,
                   Objective objective, Spread& spread, std::vector<int>& missing) {
  LocalSearch(solver, states, items, objective, spread, missing).Run();
}

}  // namespace tandem::placement
