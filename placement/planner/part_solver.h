// One part of a cluster, solved for given numbers of replicas; answers are kept, since parts in equal states with equal
// numbers have one. Pure; one thread.
#ifndef TANDEM_PLACEMENT_PLANNER_PART_SOLVER_H_
#define TANDEM_PLACEMENT_PLANNER_PART_SOLVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "placement/planner/cluster_solver.h"

namespace tandem::placement {

class PartSolver {
 public:
  struct Answer {
    bool fits = false;              // else the rest means nothing
    std::vector<HostGroup> groups;  // their items are the cluster's
    PlanCost cost;                  // `residual`: what the groups take of it, negative
    int64_t residual = 0;           // of what stays free
  };

  // All outlive this. `best_ns`: by item, of its shape anywhere.
  PartSolver(const Parts& parts, const std::vector<ClusterItem>& items, const std::vector<int64_t>& best_ns,
             Objective objective)
      : parts_(parts), items_(items), best_ns_(best_ns), objective_(objective) {}

  // `counts`: replicas by item. Valid until the next call.
  const Answer& Solve(int part, const PartState& state, const std::vector<int>& counts);

  // What a host solver is to know of `replicas` of item `i` on the part.
  HostItem ItemOn(size_t i, int part, const PartState& state, int replicas) const;
  // Equal for parts of one kind with the same free devices, memory, neighbours and running groups.
  std::string KeyOf(int part, const PartState& state) const;

  int64_t CapOf(const ClusterItem& item, const Device& device) const {
    return static_cast<int64_t>(item.memory_share * static_cast<double>(device.memory_total));
  }
  int solved() const { return static_cast<int>(answers_.size()); }

 private:
  const Parts& parts_;
  const std::vector<ClusterItem>& items_;
  const std::vector<int64_t>& best_ns_;
  const Objective objective_;
  absl::flat_hash_map<std::string, Answer> answers_;  // looked up, never iterated
};

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_PART_SOLVER_H_
