#include "placement/planner/host_counts.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace tandem::placement {
namespace {

// Vectors of replica counts of one priority that are tried; beyond it items are served in their order.
constexpr int64_t kMostVectors = 4096;

class Counts {
 public:
  explicit Counts(const HostCandidates& candidates) : candidates_(candidates), items_(candidates.items()) {}

  std::vector<int> Choose() {
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

 private:
  // Whether there are devices for all of them.
  bool Feasible(const std::vector<int>& counts) const {
    int devices = 0;
    for (size_t i = 0; i < items_.size(); ++i) {
      devices += counts[i] * items_[i].ranks;
      if (CountOf(candidates_.Eligible(i)) < counts[i] * items_[i].ranks) return false;
    }
    if (devices > CountOf(candidates_.free())) return false;
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
    for (DeviceSet rest = candidates_.Eligible(item) & ~tried; rest != 0; rest = candidates_.Eligible(item) & ~tried) {
      const int device = LowestOf(rest);
      tried |= DeviceSet{1} << device;
      if (owners[device] >= 0 && !TakeDevice(owners[device], owners, tried)) continue;
      owners[device] = item;
      return true;
    }
    return false;
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

  const HostCandidates& candidates_;
  const absl::Span<const HostItem> items_;
};

}  // namespace

std::vector<int> ChooseCounts(const HostCandidates& candidates) { return Counts(candidates).Choose(); }

}  // namespace tandem::placement
