#include "tests/sim/checker.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/core/words.h"

namespace tandem::sim {
namespace {

const core::Device* Known(const core::Core& core, const SimWorker& worker) {
  const auto it = core.state().device_names.find(worker.name());
  return it == core.state().device_names.end() ? nullptr : &core.state().At(it->second);
}

}  // namespace

std::string CheckAlways(const core::Core& core, const std::vector<std::shared_ptr<SimWorker>>& workers) {
  std::set<std::tuple<uint64_t, worker::GroupEpoch, int>> ranks;
  for (const auto& worker : workers) {
    const std::vector<worker::ShardStatus> shards = worker->Shards();
    if (shards.size() > 1) return absl::StrCat(worker->name(), " is in ", shards.size(), " groups");
    for (const worker::ShardStatus& shard : shards) {
      if (!ranks.insert({shard.group.id, shard.group.epoch, shard.rank}).second) {
        return absl::StrCat("rank ", shard.rank, " of ", shard.group.ToString(), " is held twice");
      }
    }
    const core::Device* device = Known(core, *worker);
    if (device == nullptr || !device->attached || device->incarnation != worker->incarnation()) continue;
    if (device->state == core::DeviceState::kDrained && !shards.empty()) {
      return absl::StrCat(worker->name(), " is DRAINED and holds ", shards[0].group.ToString());
    }
  }
  return "";
}

std::string CheckBusy(const core::Core& core, bool liars) {
  // Without liars a group that was ended for a lie held a promise that nobody kept.
  for (const core::Group& group : core.state().dissolved) {
    const bool just_now = !liars && core.state().now - group.ended_at < core::Seconds(5);
    if (just_now && absl::StrContains(group.reason, "claims to be well")) {
      return absl::StrCat(core::Name(group.id), " was ended: ", group.reason);
    }
  }
  for (const core::Model& model : core.state().models) {
    // Who waits for a full group that holds its prompt is let go of by a timer, and lets others pass to an idle one.
    if (model.queue.empty() || model.release_at != core::kNever) continue;
    for (core::GroupId id : model.groups) {
      const core::Group& group = *core.state().Find(id);
      if (group.indexed && group.requests.empty()) {
        return absl::StrCat(core::Name(id), " has nothing to do while ", model.queue.size(), " requests of ",
                            core::Name(model), " wait");
      }
    }
  }
  return "";
}

std::string CheckQuiet(const core::Core& core, const std::vector<std::shared_ptr<SimWorker>>& workers,
                       const std::vector<std::shared_ptr<SimClient>>& clients) {
  const core::ClusterState& state = core.state();
  for (const auto& client : clients) {
    if (!client->ended()) {
      return absl::StrCat("client ", client->name(), " of ", client->model(), " has ", client->received(),
                          " tokens and waits; last told: ", client->last_error());
    }
  }
  if (!state.requests.empty()) {
    const core::Request& request = *state.requests.begin()->second;
    return absl::StrCat(state.requests.size(), " requests are left, the first ", core::Words(request.state), " in ",
                        core::Name(request.group), request.aborting ? ", aborting" : "");
  }
  if (!state.drains.empty()) return absl::StrCat(state.drains.size(), " drains do not end");
  for (const auto& [id, group] : state.groups) {
    if (group.kv.booked.value != 0) return absl::StrCat(core::Name(id), " has ", group.kv.booked.value, " booked");
    if (group.state != core::GroupState::kReady) return absl::StrCat(core::Name(id), " is ", core::Words(group.state));
    for (const core::Member& member : group.members) {
      const core::Device& device = state.At(member.device);
      const auto worker =
          std::find_if(workers.begin(), workers.end(), [&](const auto& w) { return w->name() == device.spec.Name(); });
      const std::vector<worker::ShardStatus> shards = (*worker)->Shards();
      const worker::GroupRef ref{.id = id.value,
                                 .epoch = {.leader = group.epoch.leader, .counter = group.epoch.counter}};
      if (shards.empty() || shards[0].group != ref || !shards[0].ready) {
        return absl::StrCat(core::Name(id), " is READY and ", device.spec.Name(), " does not hold it");
      }
    }
  }
  for (const auto& worker : workers) {
    const core::Device* device = Known(core, *worker);
    if (device == nullptr || device->state != core::DeviceState::kActive) {
      return absl::StrCat(worker->name(), " is ", device == nullptr ? "unknown" : core::Words(device->state));
    }
    for (const worker::ShardStatus& shard : worker->Shards()) {
      const core::Group* group = state.Find(core::GroupId{shard.group.id});
      if (group == nullptr || group->ended_at != core::kNever) {
        return absl::StrCat(worker->name(), " holds ", shard.group.ToString(), ", which the core does not know");
      }
      if (shard.running + shard.waiting > 0) {
        return absl::StrCat(worker->name(), " computes ", shard.running + shard.waiting, " requests of nobody");
      }
    }
  }
  for (const core::Model& model : state.models) {
    const int ready = state.ReadyReplicas(model);
    if (ready < std::min(state.Wanted(model), model.spec.replicas_min) && model.waits_for.empty()) {
      return absl::StrCat(core::Name(model), " has ", ready, " replicas and does not say what it waits for");
    }
    if (ready == 0 && state.groups.empty() && model.refused == core::Reason::kNone) {
      return absl::StrCat(core::Name(model), " has no replica in an empty cluster: ", model.waits_for);
    }
  }
  return "";
}

}  // namespace tandem::sim
