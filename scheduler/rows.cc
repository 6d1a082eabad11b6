#include "scheduler/rows.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/core/health.h"
#include "scheduler/core/memory_ledger.h"

namespace tandem::scheduler {

std::string DeviceName::ToString() const { return absl::StrCat("nodes/", node, "/devices/", index); }

DeviceRow RowOf(const core::ClusterState& state, const core::Device& device) {
  const core::DeviceSpec& spec = device.spec;
  DeviceRow row;
  row.name = {spec.node, spec.index};
  row.kind = spec.kind;
  row.model = spec.model;
  row.uuid = spec.uuid;
  row.pci_bus_id = spec.pci_bus_id;
  row.build = spec.build;
  row.numerics = spec.numerics;
  row.reason = device.reason;
  row.numa_node = spec.numa_node;
  row.threads = spec.threads;
  row.state = device.state;
  row.cordoned = device.cordoned;
  row.drain_wanted = device.drain_wanted;
  row.incarnation = device.incarnation;
  row.memory_total = spec.memory_total;
  row.memory_budget = spec.memory_budget;
  row.memory_free = device.memory_free;
  row.memory_ours = core::MemoryOurs(state, device);
  row.memory_foreign = core::ForeignMemory(device);
  row.groups = device.groups;
  row.ailments = device.ailments;
  row.now = state.now;
  row.heartbeat_age = state.now - device.last_heard;
  return row;
}

GroupNumbers NumbersOf(const core::Group& group) {
  GroupNumbers row;
  row.id = group.id;
  row.model = group.model;
  row.epoch = group.epoch;
  row.state = group.state;
  row.serves = group.Serves();
  row.ready = group.InService() && group.state == core::GroupState::kReady;
  row.outdated = group.outdated;
  row.requests = static_cast<int64_t>(group.requests.size());
  row.kv_blocks = group.kv_blocks;
  row.free_blocks = group.free_blocks;
  row.block_tokens = group.block_tokens;
  row.running = group.running;
  row.waiting = group.waiting;
  row.max_sequences = group.max_sequences;
  row.booked = group.kv.Booked();
  row.capacity = group.kv.capacity;
  row.step_us = group.step_us;
  row.step_tokens = group.step_tokens;
  row.steps = group.steps;
  row.preemptions = group.preemptions;
  return row;
}

GroupRow RowOf(const core::ClusterState& state, const core::Group& group) {
  GroupRow row;
  row.numbers = NumbersOf(group);
  row.model = state.At(group.model).spec.name;
  row.why = group.why;
  row.reason = group.reason;
  row.numerics_id = group.numerics_id;
  row.kv_bytes = group.kv_bytes;
  row.ranks.reserve(group.members.size());
  for (const core::Member& member : group.members) {
    const core::DeviceSpec& spec = state.At(member.device).spec;
    row.ranks.push_back({{spec.node, spec.index}, member.estimated, member.measured, member.planned});
  }
  return row;
}

ModelRow RowOf(const core::ClusterState& state, const core::Model& model) {
  return {model.id,         model.spec,         state.Wanted(model),   state.Sleeps(model),
          model.undeployed, model.queue.size(), model.prefixes.size(), model.waits_for};
}

RequestRow RowOf(const core::ClusterState& state, const core::Request& request) {
  RequestRow row;
  row.id = request.id;
  row.serial = request.serial;
  row.model_id = request.model;
  row.model = state.At(request.model).spec.name;
  row.state = request.state;
  row.waits = request.Waits();
  row.attempt = request.attempt;
  row.group = request.group;
  row.prompt = request.prompt;
  row.output = request.output;
  row.max_tokens = request.max_tokens;
  row.priority = request.priority;
  row.preemptions = request.preemptions;
  row.age = state.now - request.arrived;
  row.tenant = request.tenant;
  row.outcome_text = request.outcome_text;
  row.caller_id = request.caller_id;
  row.trace_id = request.trace_id;
  return row;
}

NodeRow RowOf(const core::ClusterState& state, const core::Node& node) {
  NodeRow row;
  row.name = node.name;
  for (core::DeviceId id : node.devices) {
    const core::Device& device = state.At(id);
    row.active += device.state == core::DeviceState::kActive;
    EndRow& end = row.ends.emplace_back();
    end.trusts_links = core::TrustsLinks(device);
    end.spec.node = device.spec.node;
    end.spec.index = device.spec.index;
    end.spec.kind = device.spec.kind;
    end.spec.model = device.spec.model;
    end.spec.uuid = device.spec.uuid;
  }
  for (size_t i = 0; i < node.devices.size(); ++i) {
    for (size_t j = i + 1; j < node.devices.size(); ++j) {
      const auto record = state.links.find({node.devices[i], node.devices[j]});
      if (record != state.links.end()) row.links.push_back({i, j, record->second});
    }
  }
  return row;
}

ClusterRow RowOf(const core::ClusterState& state) {
  ClusterRow row;
  row.now = state.now;
  row.leader_epoch = state.leader_epoch;
  row.waiting = state.waiting;
  row.running_requests = state.running_requests;
  row.counters = state.counters;
  row.models = state.models.size();
  row.groups = state.groups.size();
  row.devices = state.devices.size();
  row.drains = state.drains.size();
  for (const auto& [id, drain] : state.drains) row.drain_requests += std::max(0, drain.requests_left);
  return row;
}

}  // namespace tandem::scheduler
