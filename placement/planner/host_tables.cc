#include "placement/planner/host_tables.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <tuple>

#include "glog/logging.h"

namespace tandem::placement {
namespace {

constexpr int64_t kNoLimit = INT64_MAX;

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

class Tables {
 public:
  Tables(const HostCandidates& candidates, ResidualValue& residual, Objective objective)
      : candidates_(candidates), items_(candidates.items()), residual_(residual), objective_(objective) {}

  // The smallest worst ratio that still places `counts`, then the least sums.
  std::vector<HostGroup> Compose(const std::vector<int>& counts) {
    if (objective_ == Objective::kLeastMoved) return *ComposeWithin(counts, kNoLimit);
    std::vector<int64_t> ratios;
    int64_t floor = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      if (counts[i] == 0) continue;
      int64_t least = kNoLimit;
      for (const Candidate& candidate : candidates_.Of(i)) {
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

 private:
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
    std::vector<std::vector<DeviceSet>> begun(candidates_.ByLowest(item).size()), longer;  // by lowest device
    for (int groups = 1; groups <= replicas; ++groups) {
      longer.assign(begun.size(), {});
      for (size_t lowest = 0; lowest < begun.size(); ++lowest) {
        for (const int c : candidates_.ByLowest(item)[lowest]) {
          const Candidate& candidate = candidates_.Of(item)[c];
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

  std::optional<std::vector<HostGroup>> ComposeWithin(const std::vector<int>& counts, int64_t most_ratio) {
    if (layers_.empty()) {
      layers_.reserve(items_.size());
      for (size_t i = 0; i < items_.size(); ++i) {
        if (counts[i] > 0) layers_.emplace_back(i, candidates_.devices());
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
      within |= candidates_.Eligible(layer.item);
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
    const DeviceSet rest = candidates_.Eligible(layer.item) & ~used;
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
      const int64_t residual = residual_.Of(candidates_.free() & ~set);
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

  const HostCandidates& candidates_;
  const absl::Span<const HostItem> items_;
  ResidualValue& residual_;
  const Objective objective_;
  std::vector<Layer> layers_;  // of the items that get groups
};

}  // namespace

std::vector<HostGroup> ComposeGroups(const HostCandidates& candidates, ResidualValue& residual,
                                     const std::vector<int>& counts, Objective objective) {
  return Tables(candidates, residual, objective).Compose(counts);
}

}  // namespace tandem::placement
