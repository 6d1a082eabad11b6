// How fast a set of devices can sum: the bus bandwidth of the best ring or rings over them, in the sense of nccl-tests
// (busbw), and where it is narrowest.
//
//   switch     every member's links to the NVSwitch: the least k * rate of the members
//   direct     the largest number of directed Hamiltonian rings that fit the NVLink counts, each link once per
//              direction; two members without a link may use a third one's (both of its links); times the rate of one
//              link. A smaller group of a mesh has fewer rings, not the same
//   mixed      else the ring whose slowest hop is fastest. Hops over PCIe share the edges that they cross, with the
//              ring's own other hops and with `foreign` crossings of other groups
// n = 2: one hop there and back. n = 1: no ring; the order is that device, bandwidth 0 means "not needed".
#ifndef TANDEM_PLACEMENT_PLANNER_BUS_BANDWIDTH_H_
#define TANDEM_PLACEMENT_PLANNER_BUS_BANDWIDTH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

// What the slowest hop of the ring is, for its latency.
enum class HopClass : uint8_t { kSharedMemory, kNvLink, kPci, kNet };

struct Ring {
  std::vector<int> order;  // device indices, rank order: the ring with the fewest crossings; starts with the lowest
  int64_t mbps = 0;        // bus bandwidth, without an efficiency factor
  HopClass hop = HopClass::kNvLink;
  int rings = 0;               // directed rings that were packed; 0 where the bandwidth is no count of rings
  std::string bottleneck;      // "NV2 between 0 and 3", "socket link crossed by 3 rings"
  std::vector<int> crossings;  // per edge of the host: hops of this ring over it, per direction
  bool exact = true;           // false: the packing was cut short, the bandwidth is a lower bound
};

// `members`: indices into host.devices, distinct, any order, at most 16. `foreign`: per edge of the host, crossings of
// other groups; empty = none. Deterministic. Relabelling the devices relabels the answer.
Ring BestRing(const Host& host, absl::Span<const int> members, absl::Span<const int> foreign = {});

// A ring over several hosts: each host's part at its own best, the network between; HopClass::kNet.
struct HostPart {
  const Host* host = nullptr;
  std::vector<int> members;
};
Ring BestRingAcross(absl::Span<const HostPart> parts);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_BUS_BANDWIDTH_H_
