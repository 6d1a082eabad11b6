#include "placement/planner/host_candidates.h"

#include <numeric>

namespace tandem::placement {

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

HostCandidates::HostCandidates(HostScores& scores, absl::Span<const HostItem> items, DeviceSet free,
                               absl::Span<const int> foreign)
    : items_(items), devices_(scores.host().size()), free_(free) {
  for (const HostItem& item : items) {
    DeviceSet eligible = 0;
    for (int d = 0; d < devices_; ++d) {
      if (item.spare[d] >= 0) eligible |= DeviceSet{1} << d;
    }
    eligible &= free;
    eligible_.push_back(eligible);
    auto& candidates = of_.emplace_back();
    auto& by_lowest = by_lowest_.emplace_back(devices_);
    for (const DeviceSet set : SetsOf(eligible, item.ranks)) {
      Candidate candidate;
      candidate.set = set;
      candidate.sums.ns = scores.CostBeside(set, item.workload, foreign);
      candidate.sums.moved = MovedOf(item, set);
      candidate.sums.waste = WasteOf(item, set);
      candidate.sums.numa = scores.NumaCrossings(set);
      candidate.ratio = RatioOf(candidate.sums.ns, item.best_ns);
      by_lowest[LowestOf(set)].push_back(static_cast<int>(candidates.size()));
      candidates.push_back(candidate);
      if (share_edges_ || item.ranks < 2) continue;
      const auto& crossings = scores.RingOf(set).crossings;
      share_edges_ = std::any_of(crossings.begin(), crossings.end(), [](int n) { return n > 0; });
    }
  }
}

int HostCandidates::count() const {
  return std::accumulate(of_.begin(), of_.end(), 0,
                         [](int sum, const auto& candidates) { return sum + static_cast<int>(candidates.size()); });
}

}  // namespace tandem::placement
