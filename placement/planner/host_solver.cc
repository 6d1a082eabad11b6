#include "placement/planner/host_solver.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <optional>
#include <tuple>

#include "glog/logging.h"

namespace tandem::placement {
namespace {

constexpr int64_t kNoLimit = INT64_MAX;
// Hosts up to this size are enumerated where groups share edges.
constexpr int kEnumerated = 8;
// Vectors of replica counts of one priority that are tried; beyond it models are served in their order.
constexpr int64_t kMostVectors = 4096;

// What adds up over groups. Compared in the objective's order.
struct Sums {
  int64_t ns = 0, moved = 0, waste = 0, numa = 0;
  bool operator==(const Sums&) const = default;
  Sums operator+(const Sums& o) const { return {ns + o.ns, moved + o.moved, waste + o.waste, numa + o.numa}; }
  bool Less(const Sums& o, Objective objective) const {
    if (objective == Objective::kLeastMoved && moved != o.moved) return moved < o.moved;
    return std::tie(ns, moved, waste, numa) < std::tie(o.ns, o.moved, o.waste, o.numa);
  }
  // What stands above the residual value in the order of goals.
  std::pair<int64_t, int64_t> Head(Objective objective) const {
    return objective == Objective::kLeastMoved ? std::pair{moved, ns} : std::pair{ns, moved};
  }
};

struct Candidate {
  DeviceSet set = 0;
  Sums sums;
  int64_t ratio = 0;
};

int64_t RatioOf(int64_t ns, int64_t best_ns) { return best_ns <= 0 ? 1000 : ns * 1000 / best_ns; }

int64_t WasteOf(const HostItem& item, DeviceSet set) {
  int64_t least = INT64_MAX, sum = 0;
  for (const int d : MembersOf(set)) {
    least = std::min(least, item.spare[d]);
    sum += item.spare[d];
  }
  return sum - least * CountOf(set);
}

int64_t MovedOf(const HostItem& item, DeviceSet set) {
  const bool there = std::find(item.running.begin(), item.running.end(), set) != item.running.end();
  return there ? 0 : item.rank_bytes * CountOf(set);
}

// Lower devices first: the set that has the lowest device in which they differ.
bool Lower(DeviceSet a, DeviceSet b) { return a != b && (a >> LowestOf(a ^ b) & 1) != 0; }

class Solver {
 public:
  Solver(HostScores& scores, ResidualValue& residual, absl::Span<const HostItem> items, DeviceSet free,
         absl::Span<const int> foreign, Objective objective)
      : scores_(scores), residual_(residual), items_(items), free_(free), foreign_(foreign), objective_(objective) {
    for (const HostItem& item : items) AddCandidates(item);
  }

  HostSolution Run() {
    HostSolution solution;
    for (const auto& candidates : candidates_) solution.candidates += static_cast<int>(candidates.size());
    solution.placed = ChooseCounts();
    if (SharesEdges() && scores_.host().size() <= kEnumerated) {
      Enumerate(solution.placed, 0, 0, -1, 0);
      solution.groups = best_;
    } else {
      solution.groups = Compose(solution.placed);
    }
    solution.cost = CostOf(scores_, residual_, items_, solution.groups, free_, foreign_);
    for (size_t i = 0; i < items_.size(); ++i) solution.cost.unplaced += items_[i].replicas - solution.placed[i];
    if (SharesEdges() && scores_.host().size() > kEnumerated) {
      int64_t alone = 0;
      for (const HostGroup& group : solution.groups) alone += scores_.Cost(group.set, items_[group.item].workload);
      solution.exact = alone == solution.cost.sum_ns;  // else what they do to each other was not part of the choice
    }
    return solution;
  }

 private:
  void AddCandidates(const HostItem& item) {
    DeviceSet eligible = 0;
    for (int d = 0; d < scores_.host().size(); ++d) {
      if (item.spare[d] >= 0) eligible |= DeviceSet{1} << d;
    }
    eligible &= free_;
    eligible_.push_back(eligible);
    auto& candidates = candidates_.emplace_back();
    auto& by_lowest = by_lowest_.emplace_back(scores_.host().size());
    for (const DeviceSet set : SetsOf(eligible, item.ranks)) {
      Candidate candidate;
      candidate.set = set;
      candidate.sums.ns = scores_.CostBeside(set, item.workload, foreign_);
      candidate.sums.moved = MovedOf(item, set);
      candidate.sums.waste = WasteOf(item, set);
      candidate.sums.numa = scores_.NumaCrossings(set);
      candidate.ratio = RatioOf(candidate.sums.ns, item.best_ns);
      by_lowest[LowestOf(set)].push_back(static_cast<int>(candidates.size()));
      candidates.push_back(candidate);
    }
  }

  bool SharesEdges() {
    if (shares_edges_ < 0) {
      shares_edges_ = 0;
      for (size_t i = 0; i < items_.size() && shares_edges_ == 0; ++i) {
        if (items_[i].ranks < 2) continue;
        for (const Candidate& candidate : candidates_[i]) {
          const auto& crossings = scores_.RingOf(candidate.set).crossings;
          if (std::any_of(crossings.begin(), crossings.end(), [](int n) { return n > 0; })) shares_edges_ = 1;
          if (shares_edges_ == 1) break;
        }
      }
    }
    return shares_edges_ == 1;
  }

  // ---- how many of each
  // ------------------------------------------------------------------------------------------------

  // Whether there are devices for all of them. Any eligible devices form a group, whatever it costs, so this is a
  // matching of ranks to devices.
  bool Feasible(const std::vector<int>& counts) const {
    int devices = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      devices += counts[i] * items_[i].ranks;
      if (CountOf(eligible_[i]) < counts[i] * items_[i].ranks) return false;
    }
    if (devices > CountOf(free_)) return false;
    Owners owners;
    owners.fill(-1);
    for (size_t i = 0; i < items_.size(); ++i) {
      for (int rank = 0; rank < counts[i] * items_[i].ranks; ++rank) {
        DeviceSet tried = 0;
        if (!TakeDevice(static_cast<int>(i), owners, tried)) return false;
      }
    }
    return true;
  }

  using Owners = std::array<int, kMostExactDevices>;  // item by device, -1: nobody

  // One more device for the item, others moved to make room.
  bool TakeDevice(int item, Owners& owners, DeviceSet& tried) const {
    for (DeviceSet rest = eligible_[item] & ~tried; rest != 0; rest = eligible_[item] & ~tried) {
      const int device = LowestOf(rest);
      tried |= DeviceSet{1} << device;
      if (owners[device] >= 0 && !TakeDevice(owners[device], owners, tried)) continue;
      owners[device] = item;
      return true;
    }
    return false;
  }

  // All that is wanted where it fits. Else the higher priority first, and among equals the most replicas, the earlier
  // model winning ties.
  std::vector<int> ChooseCounts() {
    std::vector<int> wanted(items_.size());
    for (size_t i = 0; i < items_.size(); ++i) wanted[i] = items_[i].replicas;
    if (Feasible(wanted)) return wanted;
    std::vector<int> counts(items_.size(), 0);
    std::vector<int> priorities;
    for (const HostItem& item : items_) priorities.push_back(item.priority);
    std::sort(priorities.rbegin(), priorities.rend());
    priorities.erase(std::unique(priorities.begin(), priorities.end()), priorities.end());
    for (const int priority : priorities) ChooseCountsOf(priority, counts);
    return counts;
  }

  void ChooseCountsOf(int priority, std::vector<int>& counts) {
    std::vector<size_t> members;
    int64_t vectors = 1;
    for (size_t i = 0; i < items_.size(); ++i) {
      if (items_[i].priority != priority) continue;
      members.push_back(i);
      vectors = std::min(kMostVectors + 1, vectors * (items_[i].replicas + 1));
    }
    if (vectors > kMostVectors) {
      for (const size_t i : members) {
        for (counts[i] = items_[i].replicas; counts[i] > 0 && !Feasible(counts);) --counts[i];
      }
      return;
    }
    std::vector<std::vector<int>> all = {{}};
    for (const size_t i : members) {
      std::vector<std::vector<int>> longer;
      for (const auto& begun : all) {
        for (int n = items_[i].replicas; n >= 0; --n) {
          longer.push_back(begun);
          longer.back().push_back(n);
        }
      }
      all = std::move(longer);
    }
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return std::accumulate(a.begin(), a.end(), 0) > std::accumulate(b.begin(), b.end(), 0);
    });
    for (const auto& vector : all) {
      for (size_t m = 0; m < members.size(); ++m) counts[members[m]] = vector[m];
      if (Feasible(counts)) return;
    }
  }

  // ---- small hosts: every way
  // -------------------------------------------------------------------------------------------

  void Enumerate(const std::vector<int>& counts, size_t item, int done, int lowest, DeviceSet used) {
    while (item < items_.size() && done == counts[item]) ++item, done = 0, lowest = -1;
    if (item == items_.size()) {
      const PlanCost cost = CostOf(scores_, residual_, items_, chosen_, free_, foreign_);
      if (!any_ || Better(cost, best_cost_, objective_)) any_ = true, best_cost_ = cost, best_ = chosen_;
      return;
    }
    for (const Candidate& candidate : candidates_[item]) {
      if ((candidate.set & used) != 0 || LowestOf(candidate.set) <= lowest) continue;
      chosen_.push_back({static_cast<int>(item), candidate.set});
      Enumerate(counts, item, done + 1, LowestOf(candidate.set), used | candidate.set);
      chosen_.pop_back();
    }
  }

  // ---- larger ones: sets of devices
  // ------------------------------------------------------------------------------------

  // What is known of sets of devices. Only sets that were reached take more than an index, and clearing costs no more
  // than filling did: there are 65,536 sets of 16 devices, and mostly few are reached.
  class Table {
   public:
    struct Entry {
      DeviceSet set = 0;
      Sums sums;
      DeviceSet last = 0;  // the group of the set's lowest device; or the part that the latest item took
    };
    explicit Table(int devices) : slots_(size_t{1} << devices, 0) {}

    void Clear() {
      for (const Entry& entry : entries_) slots_[entry.set] = 0;
      entries_.clear();
    }
    bool Has(DeviceSet set) const { return slots_[set] != 0; }
    const Entry& At(DeviceSet set) const { return entries_[slots_[set] - 1]; }
    // In the order in which sets were offered first.
    const std::vector<Entry>& entries() const { return entries_; }

    void Offer(DeviceSet set, const Sums& sums, DeviceSet last, Objective objective) {
      uint16_t& slot = slots_[set];
      if (slot == 0) {
        entries_.push_back({set, sums, last});
        slot = static_cast<uint16_t>(entries_.size());
      } else if (Entry& entry = entries_[slot - 1]; sums.Less(entry.sums, objective)) {
        entry = {set, sums, last};
      }
    }

   private:
    static_assert(kMostExactDevices <= 16, "the empty set is never offered; a slot has room for all others");
    std::vector<uint16_t> slots_;  // by set: its entry, counted from one; 0: not known
    std::vector<Entry> entries_;
  };

  // The tables of one item, kept from one limit of the ratio to the next.
  struct Layer {
    Layer(size_t item, int devices) : item(item), cover(devices), used(devices) {}
    size_t item;
    Table cover;                  // unions of its groups, of fewer than all of them too
    std::vector<DeviceSet> full;  // those of all its groups, ascending
    int64_t least = 0;            // of what the objective looks at first, over `full`
    Table used;                   // what it and the items before it can take together
  };

  // All ways to take `replicas` groups within the limit, group by group, each below the lowest device of those before.
  void Cover(Layer& layer, int replicas, int64_t most_ratio) const {
    layer.cover.Clear();
    layer.full.clear();
    const size_t item = layer.item;
    std::vector<std::vector<DeviceSet>> begun(by_lowest_[item].size()), longer;  // by lowest device
    for (int groups = 1; groups <= replicas; ++groups) {
      longer.assign(begun.size(), {});
      for (size_t lowest = 0; lowest < begun.size(); ++lowest) {
        for (const int c : by_lowest_[item][lowest]) {
          const Candidate& candidate = candidates_[item][c];
          if (candidate.ratio > most_ratio) continue;
          const auto offer = [&](DeviceSet others, const Sums& sums) {
            const DeviceSet set = candidate.set | others;
            if (!layer.cover.Has(set)) longer[lowest].push_back(set);
            layer.cover.Offer(set, sums, candidate.set, objective_);
          };
          if (groups == 1) offer(0, candidate.sums);
          for (size_t above = lowest + 1; above < begun.size(); ++above) {
            for (const DeviceSet others : begun[above]) {
              if ((others & candidate.set) == 0) offer(others, layer.cover.At(others).sums + candidate.sums);
            }
          }
        }
      }
      begun.swap(longer);
    }
    for (const auto& sets : begun) layer.full.insert(layer.full.end(), sets.begin(), sets.end());
    std::sort(layer.full.begin(), layer.full.end());
    layer.least = kNoLimit;
    for (const DeviceSet part : layer.full) layer.least = std::min(layer.least, First(layer.cover.At(part).sums));
  }

  // The smallest worst ratio that still places `counts`, then the least sums.
  std::vector<HostGroup> Compose(const std::vector<int>& counts) {
    if (objective_ == Objective::kLeastMoved) return *ComposeWithin(counts, kNoLimit);
    std::vector<int64_t> ratios;
    int64_t floor = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      if (counts[i] == 0) continue;
      int64_t least = kNoLimit;
      for (const Candidate& candidate : candidates_[i]) {
        least = std::min(least, candidate.ratio);
        ratios.push_back(candidate.ratio);
      }
      floor = std::max(floor, least);
    }
    std::sort(ratios.begin(), ratios.end());
    ratios.erase(std::unique(ratios.begin(), ratios.end()), ratios.end());
    ratios.erase(ratios.begin(), std::lower_bound(ratios.begin(), ratios.end(), floor));
    if (ratios.empty()) return {};
    if (auto groups = ComposeWithin(counts, ratios.front())) return *std::move(groups);
    size_t below = 0,
           above = ratios.size() - 1;  // not within ratios[below]; within ratios[above], since counts are feasible
    std::vector<HostGroup> best;
    while (above - below > 1 || best.empty()) {
      const size_t middle = above - below > 1 ? (below + above) / 2 : above;
      if (auto groups = ComposeWithin(counts, ratios[middle])) {
        above = middle;
        best = *std::move(groups);
      } else {
        CHECK_LT(middle, above) << "feasible counts were not placed";
        below = middle;
      }
    }
    return best;
  }

  std::optional<std::vector<HostGroup>> ComposeWithin(const std::vector<int>& counts, int64_t most_ratio) {
    if (layers_.empty()) {
      layers_.reserve(items_.size());
      for (size_t i = 0; i < items_.size(); ++i) {
        if (counts[i] > 0) layers_.emplace_back(i, scores_.host().size());
      }
    }
    for (Layer& layer : layers_) {
      Cover(layer, counts[layer.item], most_ratio);
      if (layer.full.empty()) return std::nullopt;
    }
    const int64_t most =
        std::min(TakenInOrder(layers_.begin(), layers_.end()), TakenInOrder(layers_.rbegin(), layers_.rend()));
    int64_t to_come = 0;
    for (const Layer& layer : layers_) to_come += layer.least;
    std::vector<DeviceSet> reached = {0};
    DeviceSet within = 0;
    const Table* before = nullptr;
    for (Layer& layer : layers_) {
      layer.used.Clear();
      within |= eligible_[layer.item];
      to_come -= layer.least;
      const bool more_ways_than_sets = reached.size() * layer.full.size() > size_t{1} << CountOf(within);
      if (before != nullptr && more_ways_than_sets && Alike(*before, layer)) {
        TakeFirst(*before, layer, within);
      } else {
        TakeBest(reached, before, layer, most - to_come);
      }
      if (layer.used.entries().empty()) return std::nullopt;
      reached.clear();
      for (const Table::Entry& entry : layer.used.entries()) reached.push_back(entry.set);
      std::sort(reached.begin(), reached.end());
      before = &layer.used;
    }
    DeviceSet used = before == nullptr ? 0 : Choose(reached, *before);
    std::vector<HostGroup> groups;
    for (size_t l = layers_.size(); l-- > 0;) {
      DeviceSet part = layers_[l].used.At(used).last;
      used ^= part;
      for (DeviceSet group = 0; part != 0; part ^= group) {
        group = layers_[l].cover.At(part).last;
        groups.push_back({static_cast<int>(layers_[l].item), group});
      }
    }
    std::sort(groups.begin(), groups.end(), [](const HostGroup& a, const HostGroup& b) {
      return a.item != b.item ? a.item < b.item : Lower(a.set, b.set);
    });
    return groups;
  }

  // What the objective looks at first. There is a solution of `most` at most, so what comes to more is left out: it can
  // become neither the best nor its equal.
  int64_t First(const Sums& sums) const { return sums.Head(objective_).first; }

  // The items one after the other, each with the cheapest that is left; kNoLimit where one finds nothing.
  template <typename Iterator>
  int64_t TakenInOrder(Iterator begin, Iterator end) const {
    DeviceSet used = 0;
    int64_t sum = 0;
    for (Iterator layer = begin; layer != end; ++layer) {
      int64_t least = kNoLimit;
      DeviceSet taken = 0;
      for (const DeviceSet part : layer->full) {
        if ((part & used) != 0) continue;
        const int64_t cost = First(layer->cover.At(part).sums);
        if (cost < least) least = cost, taken = part;
      }
      if (taken == 0) return kNoLimit;
      used |= taken;
      sum += least;
    }
    return sum;
  }

  void TakeBest(const std::vector<DeviceSet>& reached, const Table* before, Layer& layer, int64_t most) const {
    for (const DeviceSet used : reached) {
      const Sums sums = before == nullptr ? Sums() : before->At(used).sums;
      if (First(sums) + layer.least > most) continue;
      ForEachPart(layer, used, [&](DeviceSet part) {
        const Sums both = sums + layer.cover.At(part).sums;
        if (First(both) <= most) layer.used.Offer(used | part, both, part, objective_);
      });
    }
  }

  // Whether all that was reached costs the same, and so does all that the item can take: equal devices on a switch.
  static bool Alike(const Table& before, const Layer& layer) {
    const Sums& reached = before.entries().front().sums;
    const Sums& taken = layer.cover.At(layer.full.front()).sums;
    return std::all_of(before.entries().begin(), before.entries().end(),
                       [&](const Table::Entry& entry) { return entry.sums == reached; }) &&
           std::all_of(layer.full.begin(), layer.full.end(),
                       [&](DeviceSet part) { return layer.cover.At(part).sums == taken; });
  }

  // What TakeBest finds where all ways are alike: for each set the first way, instead of all of them.
  void TakeFirst(const Table& before, Layer& layer, DeviceSet within) const {
    const Sums sums = before.entries().front().sums + layer.cover.At(layer.full.front()).sums;
    const int taken = CountOf(before.entries().front().set), need = CountOf(layer.full.front());
    for (const DeviceSet set : SetsOf(within, taken + need)) {
      DeviceSet used = set;  // the lowest `taken` of it, then upwards
      while (CountOf(used) > taken) used &= ~std::bit_floor(used);
      for (; used != 0; used = (used - set) & set) {
        if (!before.Has(used) || CountOf(used) != taken || !layer.cover.Has(set ^ used)) continue;
        layer.used.Offer(set, sums, set ^ used, objective_);
        break;
      }
    }
  }

  // The item's parts beside `used`, ascending: out of those there are, or out of the sets of the devices left,
  // whichever are fewer.
  template <typename Visit>
  void ForEachPart(const Layer& layer, DeviceSet used, Visit visit) const {
    const DeviceSet rest = eligible_[layer.item] & ~used;
    if (layer.full.size() < size_t{1} << CountOf(rest)) {
      for (const DeviceSet part : layer.full) {
        if ((part & used) == 0) visit(part);
      }
      return;
    }
    const int need = CountOf(layer.full.front());
    for (DeviceSet part = (0 - rest) & rest; part != 0; part = (part - rest) & rest) {
      if (layer.cover.Has(part) && CountOf(part) == need) visit(part);
    }
  }

  // Of all ways to use the host, the one with the least time and moves, then the most that stays formable.
  DeviceSet Choose(const std::vector<DeviceSet>& sets, const Table& table) {
    DeviceSet best = sets.front();
    int64_t best_residual = -1;
    for (const DeviceSet set : sets) {
      const Sums& a = table.At(set).sums;
      const Sums& b = table.At(best).sums;
      if (a.Head(objective_) > b.Head(objective_)) continue;
      const int64_t residual = residual_.Of(free_ & ~set);
      const auto order = [](const Sums& s, int64_t residual) { return std::tuple(-residual, s.waste, s.numa); };
      const auto mine = order(a, residual), theirs = order(b, best_residual);
      if (best_residual < 0 || a.Head(objective_) < b.Head(objective_) || mine < theirs ||
          (mine == theirs && Lower(set, best))) {
        best = set;
        best_residual = residual;
      }
    }
    return best;
  }

  HostScores& scores_;
  ResidualValue& residual_;
  const absl::Span<const HostItem> items_;
  const DeviceSet free_;
  const absl::Span<const int> foreign_;
  const Objective objective_;
  std::vector<DeviceSet> eligible_;
  std::vector<std::vector<Candidate>> candidates_;        // by item, lowest devices first
  std::vector<std::vector<std::vector<int>>> by_lowest_;  // by item and lowest device: into candidates_
  int shares_edges_ = -1;
  std::vector<Layer> layers_;  // of the items that get groups
  std::vector<HostGroup> chosen_, best_;
  PlanCost best_cost_;
  bool any_ = false;
};

}  // namespace

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
  return Solver(scores, residual, items, free, foreign, objective).Run();
}

}  // namespace tandem::placement
