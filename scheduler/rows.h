// What is shown of the cluster, as plain values: rows that the core's thread copies out of its state, and from which
// others make messages and metrics. Nothing is formatted here, and a row costs less than a microsecond; what would cost
// more (the groups of a model, of which there may be thousands, a place in the queue) is put together from rows.
//
// Rows are taken in pieces (row_pages.h), so two of them may be of different moments; ages are as of their own.
#ifndef TANDEM_SCHEDULER_ROWS_H_
#define TANDEM_SCHEDULER_ROWS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/core/cluster_state.h"

namespace tandem::scheduler {

struct DeviceName {
  std::string node;
  uint32_t index = 0;
  std::string ToString() const;
};

struct DeviceRow {
  DeviceName name;
  std::string kind, model, uuid, pci_bus_id, build, numerics, reason;
  int numa_node = -1;
  uint32_t threads = 1;
  core::DeviceState state = core::DeviceState::kLost;
  bool cordoned = false, drain_wanted = false;
  core::Incarnation incarnation;
  core::Bytes memory_total, memory_budget, memory_free, memory_ours, memory_foreign;
  std::vector<core::GroupId> groups;
  std::vector<core::Ailment> ailments;
  core::Instant now;  // that the ailments are seen from
  core::Duration heartbeat_age;
};

// Of a group what metrics and the account of its model need.
struct GroupNumbers {
  core::GroupId id;
  core::ModelId model;
  core::GroupEpoch epoch;
  core::GroupState state = core::GroupState::kForming;
  bool serves = false, ready = false, outdated = false;
  int64_t requests = 0;
  int32_t kv_blocks = 0, free_blocks = 0, block_tokens = 0, running = 0, waiting = 0, max_sequences = 0;
  core::Tokens booked, capacity;
  int64_t step_us = 0, step_tokens = 0;
  uint64_t steps = 0, preemptions = 0;
};

struct RankRow {
  DeviceName device;
  core::Bytes estimated, measured, planned;
};
struct GroupRow {
  GroupNumbers numbers;
  std::string model, why, reason, numerics_id;
  core::Bytes kv_bytes;
  std::vector<RankRow> ranks;
};

struct ModelRow {
  core::ModelId id;
  core::ModelSpec spec;
  int wanted = 0;
  bool sleeps = false, undeployed = false;
  size_t queued = 0, prefixes = 0;
  std::string waits_for;
};

struct RequestRow {
  core::RequestId id;
  core::Serial serial = 0;
  core::ModelId model_id;
  std::string model;
  core::RequestState state = core::RequestState::kQueued;
  bool waits = false;
  core::Attempt attempt;
  core::GroupId group;
  core::Tokens prompt, output, max_tokens;
  int priority = 0, preemptions = 0;
  core::Duration age;
  std::string tenant, outcome_text, caller_id, trace_id;
};

// One that waits, for metrics.
struct WaiterRow {
  core::ModelId model;
  std::string tenant;
  core::Duration waited;
  bool for_home = false;  // for a full group that holds its prompt
};

// A host, with its links: pairs of positions in `ends`.
struct EndRow {
  core::DeviceSpec spec;  // without its links
  bool trusts_links = true;
};
struct LinkRow {
  size_t a = 0, b = 0;
  core::LinkRecord record;
};
struct NodeRow {
  std::string name;
  int active = 0;
  std::vector<EndRow> ends;
  std::vector<LinkRow> links;  // of which something is known
};

// The sums.
struct ClusterRow {
  core::Instant now;
  uint64_t leader_epoch = 0;
  core::Waiting waiting;
  int running_requests = 0;
  core::Counters counters;
  size_t models = 0, groups = 0, devices = 0, drains = 0;
  int drain_requests = 0;
};

DeviceRow RowOf(const core::ClusterState& state, const core::Device& device);
GroupNumbers NumbersOf(const core::Group& group);
GroupRow RowOf(const core::ClusterState& state, const core::Group& group);
ModelRow RowOf(const core::ClusterState& state, const core::Model& model);
RequestRow RowOf(const core::ClusterState& state, const core::Request& request);
NodeRow RowOf(const core::ClusterState& state, const core::Node& node);
ClusterRow RowOf(const core::ClusterState& state);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ROWS_H_
