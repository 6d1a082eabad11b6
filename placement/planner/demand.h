// What is asked of the planner: models with their memory, what runs already, and how much each thing matters.
#ifndef TANDEM_PLACEMENT_PLANNER_DEMAND_H_
#define TANDEM_PLACEMENT_PLANNER_DEMAND_H_

#include <cstdint>
#include <string>
#include <vector>

#include "placement/planner/collective_time.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

struct DeviceRef {
  int host = 0;
  int device = 0;
  auto operator<=>(const DeviceRef&) const = default;
};

// What one rank needs at one degree.
struct Shape {
  int ranks = 1;
  int64_t fixed_bytes = 0;         // weights and all else that is not KV
  int64_t kv_min_bytes = 0;        // the least KV that makes it useful
  int64_t kv_most_bytes = 0;       // never more; 0: what fits
  int64_t kv_bytes_per_token = 0;  // 0: not known
  std::string impossible;          // why this degree cannot be, in one sentence; empty = possible
  int64_t Least() const { return fixed_bytes + kv_min_bytes; }
};

// What `tensor_parallel: auto` is to make the most of.
enum class Goal : uint8_t { kThroughput, kLatency };

struct ModelDemand {
  std::string name;
  std::vector<Shape> shapes;  // one: the degree is fixed. Several, ascending: auto
  int replicas = 1;           // wanted now, those that run included
  int priority = 0;           // higher is placed first
  double memory_share = 1.0;  // cap of this model's part of a device
  Goal goal = Goal::kThroughput;
  Workload workload;
  // For the step model: parameters and bytes that a decode step reads. 0: `auto` judges by memory and links alone.
  int64_t parameters = 0;
  int64_t weight_bytes = 0;  // of the whole model
};

// A group that runs. The planner keeps it unless moving it gains more than it costs.
struct ExistingGroup {
  int model = 0;                   // index into Demand::models
  std::vector<DeviceRef> devices;  // in rank order
  bool fixed = false;              // it may not be moved: loading, draining, or the operator said so
  bool counts = true;              // false: on its way out; holds its devices, is no replica
};

// What the planner may not use of a device, now or at all.
enum class Block : uint8_t { kNone, kLost, kSuspect, kDraining, kCordoned, kBusy };

struct DeviceState {
  Block block = Block::kNone;
  int64_t usable_bytes = -1;  // that shards may take together (utilisation applied); -1: the device's total
};

// Sets that a search over groups in each other's way looks at before it is cut off. A host of eight devices has fewer;
// one of sixteen gets its answer in about 10 ms by the first, and as a rule exactly by the second, at some 2 us each.
inline constexpr int kSearchWithinMilliseconds = 5000;
inline constexpr int kSearchWithinSeconds = 1000000;

struct Demand {
  std::vector<ModelDemand> models;
  std::vector<ExistingGroup> existing;
  // By host and device; empty: all free.
  std::vector<std::vector<DeviceState>> states;
  bool across_hosts = true;  // a degree that no host has devices for may span equal hosts
  bool sharing = true;       // single ranks may live beside other groups on a device
  // A group that runs is moved only where the plan's communication time falls by this much, in parts of a thousand.
  int least_gain_permille = 200;
  int most_evaluations = kSearchWithinMilliseconds;
};

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_DEMAND_H_
