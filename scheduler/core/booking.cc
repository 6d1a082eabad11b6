#include "scheduler/core/booking.h"

#include <algorithm>

#include "base/plant.h"
#include "scheduler/core/check.h"
#include "scheduler/core/liveness.h"
#include "scheduler/core/slowness.h"

namespace tandem::core {
namespace {

Tokens WholeBlocks(Tokens tokens, int32_t block) { return {(tokens.value + block - 1) / block * block}; }

// May take one more request: in service, every rank within reach, and a place left in the engine.
bool Admits(const ClusterState& state, const Group& group) {
  if (group.state != GroupState::kReady || !group.InService() || !group.reachable) return false;
  return static_cast<int>(group.requests.size()) < group.max_sequences + state.options.engine_queue;
}

// Reindex for a change of its account alone: what Reindex found out about its devices stands.
bool Reorder(ClusterState& state, Group& group) {
  Model& model = state.At(group.model);
  const bool admits = Admits(state, group);
  // Shares in millionths of the limit, so that groups of unequal size compare.
  const int64_t booked = group.kv.Load().value * 1000000 / std::max<int64_t>(1, group.kv.limit.value);
  const int64_t share = admits ? WeighedShare(group.weight, booked) : 0;
  if (group.indexed && admits && share == group.share_key) return true;
  if (group.indexed) model.by_share.erase({group.share_key, group.id});
  // Who waited for room here has to look elsewhere.
  if (group.indexed && !admits && model.release_at != kNever) state.helped.insert(model.id);
  group.indexed = admits;
  if (!admits) return false;
  group.share_key = share;
  model.by_share.insert({share, group.id});
  model.most_limit = std::max(model.most_limit, group.kv.limit);
  model.any_slow |= group.weight > 1000;
  return true;
}

}  // namespace

Tokens EstimateNeed(const ClusterState& state, const Request& request) {
  // Of one that lost its group only the tokens it had when it last started or ended are known here; what came since is
  // within `expected` mostly, and rank 0's free blocks correct the rest.
  const Tokens left = request.max_tokens - request.output;
  const Tokens expected = state.At(request.model).outputs.P90(state.options.default_output);
  return request.prompt + request.output + std::min(left, expected);
}

Tokens BookingFor(const Group& group, Tokens need) {
  const Tokens booking = WholeBlocks(need, group.block_tokens);
  return group.requests.empty() ? std::min(booking, group.kv.limit) : booking;
}

void Book(ClusterState& state, Group& group, Request& request, Tokens tokens) {
  CORE_CHECK(!request.HoldsBooking() && tokens.value > 0, "request ", request.serial, " books ", tokens.value);
  if (group.requests.empty()) {
    for (const Member& member : group.members) Rouse(state, state.At(member.device));
  }
  request.group = group.id;
  request.booked = tokens;
  request.started = request.computed = false;
  group.kv.booked += tokens;
  group.kv.pending += request.fresh;
  Model& model = state.At(group.model);
  model.in_flight += tokens;
  if (state.options.prefix_entries > 0) group.kv.shared += model.prefixes.Pin(request.prefix, group.id);
  group.requests.insert(request.serial);
  Reorder(state, group);
}

void MarkStarted(Group& group, Request& request) {
  if (request.started) return;
  request.started = true;
  group.kv.booked_started += request.booked;
}

void MarkComputed(Group& group, Request& request) {
  CORE_CHECK(request.started && !request.computed, "request ", request.serial);
  request.computed = true;
  group.kv.pending -= request.fresh;
}

void MarkPreempted(Group& group, Request& request) {
  if (!request.started) return;
  request.started = false;
  group.kv.booked_started -= request.booked;
  if (std::exchange(request.computed, false)) group.kv.pending += request.fresh;
}

void Release(ClusterState& state, Request& request) {
  Group* group = state.Find(request.group);
  CORE_CHECK(group != nullptr && group->requests.erase(request.serial) == 1, "request ", request.serial,
             " releases what it does not hold");
  if (request.started) {
    group->kv.booked_started -= request.booked;
    // It took its overrun with it; the next heartbeat knows better.
    const Tokens overrun = request.prompt + request.output - request.booked;
    group->kv.correction -= std::clamp(overrun, Tokens{0}, group->kv.correction);
  }
  if (!request.computed) group->kv.pending -= request.fresh;
  request.fresh = {};
  group->kv.booked -= request.booked;
  Model& model = state.At(group->model);
  model.in_flight -= request.booked;
  if (state.options.prefix_entries > 0) group->kv.shared -= model.prefixes.Unpin(request.prefix, group->id);
  model.pace.Released(state.now, request.booked);
  CORE_CHECK(group->kv.booked.value >= 0 && group->kv.booked_started.value >= 0, "group ", group->id.value);
  request.booked = {};
  request.started = request.computed = false;
  if (group->requests.empty()) group->kv.correction = {};
  if (group->state == GroupState::kDraining) state.drains_touched = true;
  if (Reorder(state, *group) && kPlanted != Plant::kForgetWaiter) state.helped.insert(group->model);
}

void Correct(ClusterState& state, Group& group, int32_t free_blocks) {
  group.free_blocks = std::clamp(free_blocks, 0, group.kv_blocks);
  const Tokens used{int64_t{group.kv_blocks - group.free_blocks} * group.block_tokens};
  const Tokens before = group.kv.correction;
  // Whether what is shared is shared with one that has begun is not known; too much is corrected until both have.
  const Tokens explained = std::max(Tokens{}, group.kv.booked_started - group.kv.shared);
  group.kv.correction = group.requests.empty() ? Tokens{} : std::max(Tokens{}, used - explained);
  if (group.kv.correction == before) return;
  if (Reorder(state, group) && group.kv.correction < before) state.helped.insert(group.model);
}

bool Reindex(ClusterState& state, Group& group) {
  group.reachable = IsReachable(state, group);
  group.weight = static_cast<int32_t>(std::min<int64_t>(SlownessOf(state, group), INT32_MAX));
  return Reorder(state, group);
}

bool IsReachable(const ClusterState& state, const Group& group) {
  return std::all_of(group.members.begin(), group.members.end(), [&](const Member& member) {
    const Device& device = state.At(member.device);
    return device.attached && !device.suspect;
  });
}

}  // namespace tandem::core
