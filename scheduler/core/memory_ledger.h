// The ledger of device memory: what a rank is planned with, what was learned from loading, and what others use.
//
// Planning begins with the formula (ShardCost). When a rank has loaded, the worker's measurement replaces the estimate
// in the books, and the difference is kept by model, degree and kind of device: the next placement counts the formula
// plus that difference, upward or downward, never below zero. Of one group the rank with the greatest difference
// counts; a later group replaces what an earlier one taught, so a new worker version is believed after one load.
//
// A device's memory is ours (the worker process), foreign (all other processes) or free. Its utilisation keeps a share
// of the total free, whoever holds the rest. What is free by the last heartbeat may be promised already: to ranks that
// have yet to load, several of which may share the device.
//
// Owned by the core, as all of its state.
#ifndef TANDEM_SCHEDULER_CORE_MEMORY_LEDGER_H_
#define TANDEM_SCHEDULER_CORE_MEMORY_LEDGER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// Weights and activations of one rank by the formula of this kind of device. 0 where the model has no such degree.
Bytes EstimatedStatic(const ModelSpec& spec, int tensor_parallel, int rank, const std::string& kind);

// The same as placement counts it on a device of this kind.
Bytes PlannedStatic(const Model& model, int tensor_parallel, int rank, const std::string& kind);
// The kinds of device that there are, each once; where there is no device yet, one kind without a name. It walks all
// devices: a plan, which asks for every one of them, does this once.
std::vector<std::string> KindsOf(const ClusterState& state);
// Rank 0's on that one of the kinds which needs most, for a plan that has not chosen its devices yet.
Bytes PlannedStatic(const std::vector<std::string>& kinds, const Model& model, int tensor_parallel);
// Likewise a token of KV.
Bytes PlannedKvPerToken(const std::vector<std::string>& kinds, const ShardCost& cost);

// A rank has loaded: its measurement goes into the books and is learned from. REQUIRES: member is one of group's.
void TakeMeasurement(ClusterState& state, const Group& group, Member& member, Bytes measured);

// What the rank takes of its device, KV included: as measured, else as planned.
Bytes HeldBy(const Group& group, const Member& member);
// The same of all ranks on the device.
Bytes MemoryOurs(const ClusterState& state, const Device& device);
// What placement may still take: free memory less what the utilisation keeps free, and less what is promised; and never
// more than the budget leaves beside all ranks that are there, whatever the worker says is free.
Bytes FreeToUse(const ClusterState& state, const Device& device);
// A heartbeat came: the free memory in it is without what the device's ranks had loaded by then.
void CountLoaded(ClusterState& state, Device& device);
// How far a LOADING group is: of its slowest rank, by what the process grew since it was told to load, against what it
// was planned with. 0 to 99, 100 once all ranks have said so; -1 where no rank can tell.
int LoadedPercent(const ClusterState& state, const Group& group);
// Used by processes that are not this device's worker.
Bytes ForeignMemory(const Device& device);

// "nodes/a/devices/1: 2.0 GiB free, needs 4.0 GiB; 3.2 GiB of nodes/a/devices/1 are used by other processes"
std::string ShortOfMemory(const ClusterState& state, const Device& device, Bytes needed);
// "1.10 GiB by the formula, 1.12 GiB measured (+1.8 %)"
std::string EstimateAgainstMeasurement(Bytes estimated, Bytes measured);
// "tp=2: formula 1.10 GiB, measured 1.12 GiB on cpu (+1.8 %), planned with 1.12 GiB"
std::string DescribeLearned(const LearnedMemory& learned);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_MEMORY_LEDGER_H_
