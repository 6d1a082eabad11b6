// One host where groups share edges, exactly: branch and bound over which group takes which set.
//
// A group's cost beside those that are chosen already is a lower bound of what it will cost in the end, and its cost by
// itself one for those that are not chosen yet, because a ring never gets faster by another one on its edges. Equal
// devices (same links, memory and shards) are taken lowest first and equal groups in one order, so that a host of equal
// devices has few ways instead of millions.
//
// The search is cut off after HostScores::most_evaluations; small hosts never reach it. Pure.
#ifndef TANDEM_PLACEMENT_PLANNER_HOST_SEARCH_H_
#define TANDEM_PLACEMENT_PLANNER_HOST_SEARCH_H_

#include <vector>

#include "absl/types/span.h"
#include "placement/planner/host_candidates.h"
#include "placement/planner/residual.h"

namespace tandem::placement {

struct SearchResult {
  std::vector<HostGroup> groups;  // by item, then lowest device
  bool exact = true;              // false: cut off; the best that was seen
};

// The best way to place as many groups of each item as `first` does, which is the answer where nothing is better.
// `foreign` as SolveHost takes it.
SearchResult SearchGroups(const HostCandidates& candidates, HostScores& scores, ResidualValue& residual,
                          absl::Span<const int> foreign, Objective objective, std::vector<HostGroup> first);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_HOST_SEARCH_H_
