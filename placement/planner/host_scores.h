// What every set of devices of one host is worth: its ring, and what a workload's collectives take on it. Computed once
// for each set, or once for many: devices with equal links to all others are interchangeable, so a set is known by how
// many of each kind are in it.
//
// Sets are bit masks over the host's devices. Keeps a reference to the host. One thread.
#ifndef TANDEM_PLACEMENT_PLANNER_HOST_SCORES_H_
#define TANDEM_PLACEMENT_PLANNER_HOST_SCORES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "placement/planner/bus_bandwidth.h"
#include "placement/planner/collective_time.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

using DeviceSet = uint32_t;
inline constexpr int kMostExactDevices = 16;

// Added up in place: without an instruction for it, the compiler's own is a call into a library.
inline int CountOf(DeviceSet set) {
  set -= set >> 1 & 0x55555555u;
  set = (set & 0x33333333u) + (set >> 2 & 0x33333333u);
  return static_cast<int>(((set + (set >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}
inline int LowestOf(DeviceSet set) { return __builtin_ctz(set); }
std::vector<int> MembersOf(DeviceSet set);  // ascending

class HostScores {
 public:
  // REQUIRES: at most kMostExactDevices devices.
  explicit HostScores(const Host& host);

  // How many sets beside others a search for groups on this host may look at (Demand::most_evaluations).
  int most_evaluations() const { return most_evaluations_; }
  void set_most_evaluations(int most) { most_evaluations_ = most; }

  const Host& host() const { return host_; }
  // The set's best ring with nobody else on the host; its order is the representative's where sets share a score.
  const Ring& RingOf(DeviceSet set);
  // The same with its own order, or with crossings of other groups over the shared edges.
  Ring OrderedRingOf(DeviceSet set, absl::Span<const int> foreign = {}) const;
  // Communication time per output token, nobody else there. 0 for one device.
  int64_t Cost(DeviceSet set, const Workload& workload);
  int64_t CostBeside(DeviceSet set, const Workload& workload, absl::Span<const int> foreign);

  // Devices of one kind have equal links to all others and among each other; what they hold may differ.
  int KindOf(int device) const { return kinds_[device]; }
  // Pairs of members on different NUMA nodes.
  int NumaCrossings(DeviceSet set) const;

 private:
  struct Score {
    Ring ring;
    // Of the few workloads that were asked for.
    std::vector<std::pair<Workload, int64_t>> costs;
  };
  Score& ScoreOf(DeviceSet set);
  // The same for sets with equally many of each kind.
  uint64_t KeyOf(DeviceSet set) const;

  const Host& host_;
  int most_evaluations_ = 1000000;
  std::vector<int> kinds_;                       // by device; interchangeable ones have the same number
  absl::flat_hash_map<uint64_t, Score> scores_;  // looked up, never iterated
  absl::flat_hash_map<std::string, std::pair<int64_t, Workload>> beside_;
};

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_HOST_SCORES_H_
