#include "placement/planner/host_search.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <utility>

namespace tandem::placement {
namespace {

class Search {
 public:
  Search(const HostCandidates& candidates, HostScores& scores, ResidualValue& residual, absl::Span<const int> foreign,
         Objective objective, std::vector<HostGroup> first)
      : candidates_(candidates),
        items_(candidates.items()),
        scores_(scores),
        residual_(residual),
        foreign_(foreign),
        objective_(objective),
        left_(items_.size(), 0),
        crossings_(scores.host().edges.size(), 0),
        best_(std::move(first)) {
    for (const HostGroup& group : best_) ++left_[group.item];
    std::copy_n(foreign.begin(), std::min(foreign.size(), crossings_.size()), crossings_.begin());
    best_cost_ = CostOf(scores_, residual_, items_, best_, candidates_.free(), foreign_);
    // Groups of many ranks first: there are few ways for them, and they cost most.
    order_.resize(items_.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](size_t a, size_t b) { return items_[a].ranks > items_[b].ranks; });
    FindClasses();
  }

  SearchResult Run() {
    // All that is chosen costs what it would cost by itself: nothing is in its way, and nothing can be better.
    if (!InEachOthersWay()) return {std::move(best_), true};
    Descend(0, 0);
    return {std::move(best_), evaluations_ < scores_.most_evaluations()};
  }

 private:
  // What no completion of the chosen groups can go below. Compared as PlanCost is.
  struct Bound {
    int64_t ratio = 0, ns = 0, moved = 0;
  };

  bool InEachOthersWay() {
    int64_t alone = 0;
    for (const HostGroup& group : best_) {
      alone += scores_.CostBeside(group.set, items_[group.item].workload, foreign_);
    }
    return alone != best_cost_.sum_ns;
  }

  // Devices that nothing tells from each other.
  void FindClasses() {
    const Host& host = scores_.host();
    std::vector<int> first;  // of each class
    for (int d = 0; d < host.size(); ++d) {
      const auto alike = [&](int other) {
        if (scores_.KindOf(d) != scores_.KindOf(other)) return false;
        if (host.devices[d].memory_total != host.devices[other].memory_total) return false;
        return std::all_of(items_.begin(), items_.end(), [&](const HostItem& item) {
          return item.spare[d] == item.spare[other] &&
                 std::all_of(item.running.begin(), item.running.end(),
                             [&](DeviceSet set) { return (set >> d & 1) == (set >> other & 1); });
        });
      };
      const auto known = std::find_if(first.begin(), first.end(), alike);
      class_of_[d] = static_cast<int>(known - first.begin());
      if (known == first.end()) {
        first.push_back(d);
        classes_.push_back(0);
      }
      classes_[class_of_[d]] |= DeviceSet{1} << d;
    }
  }

  // How many of each class; the same for sets that differ in equal devices only.
  uint64_t SignatureOf(DeviceSet set) const {
    uint64_t signature = 0;
    for (; set != 0; set &= set - 1) signature += uint64_t{1} << (4 * class_of_[LowestOf(set)]);
    return signature;
  }

  // Whether the set has the lowest devices of each class that are left.
  bool TakesLowest(DeviceSet set, DeviceSet left) const {
    for (const DeviceSet members : classes_) {
      const DeviceSet mine = set & members, others = left & members & ~set;
      if (mine != 0 && others != 0 && LowestOf(others) < HighestOf(mine)) return false;
    }
    return true;
  }
  static int HighestOf(DeviceSet set) { return 31 - __builtin_clz(set); }

  // The bound of the chosen groups, and of what is to come by itself.
  Bound BoundOf(DeviceSet used) {
    Bound bound;
    for (const HostGroup& group : chosen_) {
      const HostItem& item = items_[group.item];
      bound.moved += MovedOf(item, group.set);
      int64_t ns = 0;
      if (item.ranks > 1) {
        beside_ = crossings_;
        const auto& own = scores_.RingOf(group.set).crossings;
        for (size_t e = 0; e < own.size(); ++e) beside_[e] -= own[e];
        ns = scores_.CostBeside(group.set, item.workload, beside_);
        ++evaluations_;
      }
      bound.ns += ns;
      bound.ratio = std::max(bound.ratio, RatioOf(ns, item.best_ns));
    }
    for (size_t i = 0; i < items_.size(); ++i) {
      if (left_[i] == 0) continue;
      int64_t ns = INT64_MAX, ratio = INT64_MAX, moved = INT64_MAX;
      for (const Candidate& candidate : candidates_.Of(i)) {
        if ((candidate.set & used) != 0) continue;
        ns = std::min(ns, candidate.sums.ns);
        ratio = std::min(ratio, candidate.ratio);
        moved = std::min(moved, candidate.sums.moved);
      }
      if (ns == INT64_MAX) return {INT64_MAX, 0, INT64_MAX};  // no room for it
      bound.ns += left_[i] * ns;
      bound.ratio = std::max(bound.ratio, ratio);
      bound.moved += left_[i] * moved;
    }
    return bound;
  }

  bool MayBeBest(const Bound& bound) const {
    const bool moves_first = objective_ == Objective::kLeastMoved;
    const auto order = [&](int64_t ratio, int64_t ns, int64_t moved) {
      return std::tuple(moves_first ? moved : 0, moves_first ? 0 : ratio, ns, moved);
    };
    return order(bound.ratio, bound.ns, bound.moved) <=
           order(best_cost_.worst_ratio_permille, best_cost_.sum_ns, best_cost_.moved_bytes);
  }

  // Chooses the next group of the item order_[place] or of those after it; those of one item by ascending signature.
  void Descend(size_t place, uint64_t least_signature) {
    while (place < order_.size() && left_[order_[place]] == 0) ++place, least_signature = 0;
    if (place == order_.size()) return Consider();
    const size_t i = order_[place];
    DeviceSet used = 0;
    for (const HostGroup& group : chosen_) used |= group.set;
    std::vector<const Candidate*> ways;
    for (const Candidate& candidate : candidates_.Of(i)) {
      if ((candidate.set & used) != 0 || !TakesLowest(candidate.set, candidates_.free() & ~used)) continue;
      if (SignatureOf(candidate.set) >= least_signature) ways.push_back(&candidate);
    }
    std::stable_sort(ways.begin(), ways.end(),
                     [](const Candidate* a, const Candidate* b) { return a->sums.ns < b->sums.ns; });
    for (const Candidate* way : ways) {
      if (evaluations_ >= scores_.most_evaluations()) return;
      Choose(static_cast<int>(i), way->set, +1);
      if (MayBeBest(BoundOf(used | way->set))) Descend(place, SignatureOf(way->set));
      Choose(static_cast<int>(i), way->set, -1);
    }
  }

  // Puts the group at the end of the chosen ones, or takes it from there.
  void Choose(int item, DeviceSet set, int sign) {
    if (sign > 0) {
      chosen_.push_back({item, set});
    } else {
      chosen_.pop_back();
    }
    left_[item] -= sign;
    if (items_[item].ranks < 2) return;
    const auto& own = scores_.RingOf(set).crossings;
    for (size_t e = 0; e < own.size(); ++e) crossings_[e] += sign * own[e];
  }

  void Consider() {
    std::vector<HostGroup> groups = chosen_;
    const auto before = [](const HostGroup& a, const HostGroup& b) {
      return a.item != b.item ? a.item < b.item : Lower(a.set, b.set);
    };
    std::sort(groups.begin(), groups.end(), before);
    const PlanCost cost = CostOf(scores_, residual_, items_, groups, candidates_.free(), foreign_);
    const bool lower = std::lexicographical_compare(groups.begin(), groups.end(), best_.begin(), best_.end(), before);
    if (!Better(cost, best_cost_, objective_) && (Better(best_cost_, cost, objective_) || !lower)) return;
    best_cost_ = cost;
    best_ = std::move(groups);
  }

  const HostCandidates& candidates_;
  const absl::Span<const HostItem> items_;
  HostScores& scores_;
  ResidualValue& residual_;
  const absl::Span<const int> foreign_;
  const Objective objective_;
  std::array<int, kMostExactDevices> class_of_{};
  std::vector<DeviceSet> classes_;
  std::vector<size_t> order_;   // of the items
  std::vector<int> left_;       // groups to come, by item
  std::vector<int> crossings_;  // of all chosen groups and those that stay, by edge
  std::vector<HostGroup> chosen_;
  std::vector<int> beside_;  // scratch
  int evaluations_ = 0;
  std::vector<HostGroup> best_;
  PlanCost best_cost_;
};

}  // namespace

SearchResult SearchGroups(const HostCandidates& candidates, HostScores& scores, ResidualValue& residual,
                          absl::Span<const int> foreign, Objective objective, std::vector<HostGroup> first) {
  return Search(candidates, scores, residual, foreign, objective, std::move(first)).Run();
}

}  // namespace tandem::placement
