// The sets of one host's devices that could serve each item, and what each costs by itself.
//
// A cost by itself is beside the groups that stay where they are (`foreign`), not beside those that are chosen with it:
// where groups share edges, the real one may be higher, never lower. Pure; one thread.
#ifndef TANDEM_PLACEMENT_PLANNER_HOST_CANDIDATES_H_
#define TANDEM_PLACEMENT_PLANNER_HOST_CANDIDATES_H_

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "placement/planner/host_scores.h"
#include "placement/planner/host_solver.h"

namespace tandem::placement {

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
  int64_t ratio = 0;  // permille of the item's best
};

// 1000 where there is no best to compare with.
inline int64_t RatioOf(int64_t ns, int64_t best_ns) { return best_ns <= 0 ? 1000 : ns * 1000 / best_ns; }
// Bytes that members have beyond the narrowest of them.
int64_t WasteOf(const HostItem& item, DeviceSet set);
// Bytes to load: none where the item runs on exactly this set.
int64_t MovedOf(const HostItem& item, DeviceSet set);
// Lower devices first: the set that has the lowest device in which they differ.
inline bool Lower(DeviceSet a, DeviceSet b) { return a != b && (a >> LowestOf(a ^ b) & 1) != 0; }

class HostCandidates {
 public:
  // The arguments outlive this.
  HostCandidates(HostScores& scores, absl::Span<const HostItem> items, DeviceSet free, absl::Span<const int> foreign);

  absl::Span<const HostItem> items() const { return items_; }
  int devices() const { return devices_; }
  DeviceSet free() const { return free_; }
  // Free devices with room for a rank.
  DeviceSet Eligible(size_t item) const { return eligible_[item]; }
  const std::vector<Candidate>& Of(size_t item) const { return of_[item]; }  // lowest devices first
  // Indices into Of(item), by the set's lowest device.
  const std::vector<std::vector<int>>& ByLowest(size_t item) const { return by_lowest_[item]; }
  int count() const;
  // Whether groups can be in each other's way: some candidate's ring crosses a shared edge.
  bool ShareEdges() const { return share_edges_; }

 private:
  const absl::Span<const HostItem> items_;
  const int devices_;
  const DeviceSet free_;
  std::vector<DeviceSet> eligible_;
  std::vector<std::vector<Candidate>> of_;
  std::vector<std::vector<std::vector<int>>> by_lowest_;
  bool share_edges_ = false;
};

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_HOST_CANDIDATES_H_
