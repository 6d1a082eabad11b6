// How many directed rings over all of a few devices fit the NVLinks between them: each link carries one ring per
// direction. Finding that is a packing of Hamiltonian cycles; these graphs are small, so it is solved by search.
//
// Two devices without a link may use a third one's, which takes both of its links ("through a member").
#ifndef TANDEM_PLACEMENT_PLANNER_RING_PACKING_H_
#define TANDEM_PLACEMENT_PLANNER_RING_PACKING_H_

#include <cstdint>
#include <vector>

namespace tandem::placement {

inline constexpr int kMostMembers = 16;

struct LinkCounts {
  int n = 0;
  int16_t count[kMostMembers][kMostMembers] = {};  // symmetric, nothing on the diagonal
};

struct Packing {
  int rings = 0;
  int bound = 0;           // no packing has more: every ring crosses every cut once each way
  uint32_t cut = 0;        // members on one side of the cut that gives `bound`
  std::vector<int> order;  // the first ring; empty if there is none
  bool exact = true;       // false: the search was cut short, there may be up to `bound`
};

// REQUIRES: 3 <= n <= kMostMembers. Deterministic; the search ends after a fixed number of steps.
Packing PackRings(const LinkCounts& links);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_RING_PACKING_H_
