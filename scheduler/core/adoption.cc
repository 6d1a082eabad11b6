#include "scheduler/core/adoption.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/core/cache_report.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/found_requests.h"
#include "scheduler/core/group.h"
#include "scheduler/core/health.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/liveness.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/words.h"
#include "scheduler/core/worker.h"

namespace tandem::core {
namespace {

bool Complete(const ClusterState& state, const Adoption& adoption) {
  if (adoption.conflict || adoption.kv_blocks < 1) return false;
  if (!std::all_of(adoption.ranks.begin(), adoption.ranks.end(), [](const auto& rank) { return rank.second.ready; })) {
    return false;
  }
  if (static_cast<int>(adoption.ranks.size()) != adoption.size) return false;
  const auto model = state.model_names.find(adoption.model);
  return model != state.model_names.end() && SameWeights(adoption.deployment, state.At(model->second).spec);
}

void Adopt(ClusterState& state, GroupId id, const Adoption& adoption, Actions& out) {
  Model& model = state.At(state.model_names.at(adoption.model));
  Group group;
  group.id = id;
  group.epoch = adoption.epoch;
  group.model = model.id;
  group.adopted = true;
  group.why = "formed by an earlier scheduler; all its ranks came back ready";
  group.kv_blocks = adoption.kv_blocks;
  group.max_sequences = std::max(1, model.spec.max_sequences);
  group.max_model_len = model.spec.max_model_len;
  group.numerics_id = adoption.numerics_id;
  group.created = state.now;
  const auto cost = std::find_if(model.spec.costs.begin(), model.spec.costs.end(),
                                 [&](const ShardCost& c) { return c.tensor_parallel == adoption.size; });
  for (const auto& [rank, claimed] : adoption.ranks) {
    const DeviceId device = claimed.device;
    Member member;
    member.device = device;
    member.formed = member.loaded = member.counted = true;
    member.estimated = EstimatedStatic(model.spec, adoption.size, rank, state.At(device).spec.kind);
    member.planned = PlannedStatic(model, adoption.size, rank, state.At(device).spec.kind);
    group.members.push_back(member);
    state.At(device).groups.push_back(id);
    --state.At(device).claims;
    RefreshState(state.At(device));
  }
  if (cost != model.spec.costs.end()) {
    const std::string& kind = state.At(group.Rank0()).spec.kind;
    group.kv_bytes = {cost->On(kind).kv_bytes_per_token.value * group.block_tokens * group.kv_blocks};
  }
  model.groups.push_back(id);
  group.deployment = adoption.deployment;
  Group& added = state.AddGroup(std::move(group));
  added.leaving = IsDrained(state, added);
  added.outdated = IsOutdated(state, added);
  OpenAccount(state, added);
  TakeCache(state, added, adoption);
  state.place_wanted = true;
  state.drains_touched |= added.outdated;
  out.push_back(Tell{Name(id), absl::StrCat("adopted for ", Name(model), " on ", List(state, DevicesOf(added), 8))});
  SeatFound(state, added, out);
  JoinDrains(state, added, out);
  FenceAdopted(state, id, out);
}

}  // namespace

void Handle(ClusterState& state, const LeaderStarted& event, Actions& out) {
  state.leader_epoch = event.leader_epoch;
  state.expected_devices = event.expected_devices;
  state.SetTimer(state.reattach_until, state.now + state.options.reattach_window, TimerKind::kReattach, 0);
  out.push_back(Tell{"scheduler", absl::StrCat("started with leader epoch ", event.leader_epoch)});
  Recall(state, event, out);
}

void Claim(ClusterState& state, Device& device, const HeldShard& shard, Actions& out) {
  if (state.settled) {
    const bool known = std::as_const(state).Find(shard.group) != nullptr;
    return Evict(state, device, shard.group, shard.epoch,
                 known ? "it was ended while this worker was away" : "this scheduler does not know it", out);
  }
  Adoption& adoption = state.adoptions[shard.group];
  if (adoption.ranks.empty() && !adoption.conflict) {
    adoption.epoch = shard.epoch;
    adoption.model = shard.model;
    adoption.size = shard.size;
    adoption.kv_blocks = shard.kv_blocks;
    adoption.deployment = shard.deployment;
  }
  const bool fits = shard.epoch == adoption.epoch && shard.model == adoption.model &&
                    shard.deployment == adoption.deployment && shard.size == adoption.size && shard.rank >= 0 &&
                    shard.rank < shard.size && !adoption.ranks.contains(shard.rank);
  if (!fits) {
    adoption.conflict = true;
    return Evict(state, device, shard.group, shard.epoch, "its ranks do not agree on what it is", out);
  }
  adoption.ranks[shard.rank] = {device.id, shard.ready};
  ++device.claims;
  if (shard.rank == 0) adoption.numerics_id = shard.numerics_id;
  if (shard.rank == 0 || adoption.kv_blocks == 0) adoption.kv_blocks = std::max(adoption.kv_blocks, shard.kv_blocks);
  if (!Complete(state, adoption)) return;
  const Adoption complete = std::move(adoption);
  state.adoptions.erase(shard.group);
  Adopt(state, shard.group, complete, out);
}

void ForgetClaims(ClusterState& state, DeviceId device) {
  for (auto& [id, adoption] : state.adoptions) {
    std::erase_if(adoption.ranks, [&](const auto& rank) { return rank.second.device == device; });
  }
  state.At(device).claims = 0;
}

void SettleIfComplete(ClusterState& state, Actions& out) {
  if (state.settled || state.expected_devices == 0 || state.reattach_until == kNever) return;
  int attached = 0;
  for (const Device& device : state.devices) {
    if (IsAwaited(state, device)) return;
    attached += device.attached;
  }
  if (attached >= state.expected_devices) Settle(state, out);
}

void Settle(ClusterState& state, Actions& out) {
  state.SetTimer(state.reattach_until, kNever, TimerKind::kReattach, 0);
  state.settled = true;
  state.place_wanted = true;
  state.drains_touched = true;
  for (const Device& device : state.devices) {
    if (device.drain_wanted) state.emptied.push_back(device.id);
  }
  for (const auto& [id, adoption] : std::exchange(state.adoptions, {})) {
    for (const auto& [rank, claimed] : adoption.ranks) {
      Device& device = state.At(claimed.device);
      device.claims = 0;
      Evict(state, device, id, adoption.epoch, "not all of its ranks came back ready", out);
      ArmLiveness(state, device);
    }
  }
  LoseFound(state, out);
  ConcludeRecall(state, out);
  // The scheduler before this one may have ended between a move's two groups, or a drain's.
  for (Model& model : state.models) RetireOldest(state, model, "more came back than are wanted", out);
  for (const Model& model : state.models) state.model_to_wake |= WantsWaking(state, model);
}

}  // namespace tandem::core
