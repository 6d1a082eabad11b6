// A topology cut into parts that are solved as one: a host, or where a host has more devices than are solved exactly,
// its pieces along the weakest cuts (NUMA node, then switch). No group crosses a part.
//
// Parts with equal devices and links share their scores, so that a thousand equal hosts are scored once.
#ifndef TANDEM_PLACEMENT_PLANNER_PARTS_H_
#define TANDEM_PLACEMENT_PLANNER_PARTS_H_

#include <memory>
#include <string>
#include <vector>

#include "placement/planner/host_scores.h"
#include "placement/planner/residual.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

// What equal parts share. The host's device names are those of the first of them.
struct PartKind {
  explicit PartKind(Host part);
  Host host;
  HostScores scores;
  ResidualValue residual;
};

struct Part {
  int host = 0;
  std::vector<int> devices;  // of the host, ascending: device i of the part is devices[i] of the host
  PartKind* kind = nullptr;
};

struct Parts {
  std::vector<std::unique_ptr<PartKind>> kinds;
  std::vector<Part> parts;  // by host, then lowest device
  bool split = false;       // some host was cut
};

Parts CutIntoParts(const Topology& topology);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_PARTS_H_
