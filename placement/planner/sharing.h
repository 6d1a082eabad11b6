// Memory of devices as the planner counts it, and single-rank replicas that live beside others under the ledger.
#ifndef TANDEM_PLACEMENT_PLANNER_SHARING_H_
#define TANDEM_PLACEMENT_PLANNER_SHARING_H_

#include <cstdint>
#include <vector>

#include "placement/planner/demand.h"
#include "placement/planner/plan.h"

namespace tandem::placement {

Block BlockOf(const Demand& demand, DeviceRef device);
// What all shards together may take of the device, whoever uses it now.
int64_t UsableBytes(const Topology& topology, const Demand& demand, DeviceRef device);
// The same less what other processes use.
int64_t AvailableBytes(const Topology& topology, const Demand& demand, DeviceRef device);
// What a shard of the model may take there at most, alone.
int64_t CapBytes(const Topology& topology, const Demand& demand, int model, DeviceRef device);

// Adds the missing replicas of models whose chosen shape (by model; -1: none) has one rank, higher priority and larger
// first: each to the device with the most left, on which no replica of its model is, groups or no groups. Some may
// not find a place.
void PlaceShared(const Topology& topology, const Demand& demand, const std::vector<int>& choice, Plan& plan);

// PlannedGroup::kv_bytes: what its ranks can all have beyond the least of everyone on their devices.
void AssignKv(const Topology& topology, const Demand& demand, Plan& plan);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_SHARING_H_
