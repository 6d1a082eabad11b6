// A plan and its report: which devices form which group for which model, what fell out and why, what the best would be.
#ifndef TANDEM_PLACEMENT_PLANNER_PLAN_H_
#define TANDEM_PLACEMENT_PLANNER_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "placement/planner/demand.h"

namespace tandem::placement {

// Never: no device known could hold it even if all were free and healthy. Later: something has to happen first.
enum class Fit : uint8_t { kPlaced, kLater, kNever };

// Why a device, or a set of devices, fell out. In the order in which they are tested.
enum class Exclusion : uint8_t {
  kTooSmall,  // in all, even when empty
  kLost,
  kSuspect,
  kDraining,
  kCordoned,
  kBusy,         // a group of more than one rank is there, or this one has more than one and something is
  kMemoryTaken,  // large enough, not free enough
};
inline constexpr int kExclusions = 7;
const char* Word(Exclusion exclusion);  // "TOO_SMALL", ...

struct ExcludedDevice {
  DeviceRef device;
  Exclusion why = Exclusion::kLost;
  int64_t has_bytes = 0, needs_bytes = 0;  // where memory is the reason
};

struct PlannedGroup {
  int model = 0;
  int replica = 0;
  std::vector<DeviceRef> devices;  // in rank order
  int shape = 0;                   // index into the model's shapes
  Ring ring;                       // indices of the host; empty order for one rank
  int64_t best_ns = 0;             // communication time of the best set of its shape anywhere, were all free
  int64_t kv_bytes = 0;            // per rank: the least spare over the ranks
  int64_t communication_ns = 0;    // per output token
  int kept = -1;                   // index into Demand::existing: it is that group, where it was
};

struct UnplacedReplica {
  int model = 0;
  int replica = 0;
  Fit fit = Fit::kLater;
  std::string reason;  // one sentence with numbers
};

// Lower is better, compared from top to bottom.
struct PlanCost {
  int unplaced = 0;                  // replicas, by priority first
  int64_t worst_ratio_permille = 0;  // largest communication time over the best of that shape
  int64_t sum_ns = 0;                // of communication times
  int64_t moved_bytes = 0;
  int64_t residual = 0;     // value of what stays free: groups that could still be formed; higher is better
  int64_t waste_bytes = 0;  // spare memory of members beyond what the narrowest of their group can use
  int64_t numa_crossings = 0;
};

struct ModelReport {
  int candidates = 0;                    // sets of devices that were scored
  int excluded[kExclusions] = {};        // devices, by reason
  std::vector<ExcludedDevice> examples;  // the first few of them
  std::string choice;                    // of `auto`: what the step model predicts, one sentence; empty without one
  std::vector<std::string> degrees;      // what became of each degree, one sentence each
};

struct Plan {
  std::vector<PlannedGroup> groups;  // by model, then replica
  std::vector<UnplacedReplica> unplaced;
  PlanCost cost;
  bool optimal = true;               // proven; else `bound` says how far it may be off
  int64_t bound_ns = 0;              // no plan has a smaller cost.sum_ns
  std::vector<ModelReport> reports;  // one per model
};

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_PLAN_H_
