#include "scheduler/core/rebalance.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "placement/planner/step_model.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/group.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/planning.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

// Between two models of a round: each look may plan twice, which takes a tenth of a second with ten thousand devices.
constexpr Duration kBetweenLooks = Seconds(1);
// Less than this is not worth loading a model for, whatever its share: steps of a tiny model are all noise.
constexpr int64_t kLeastGainUs = 100;

void LookAt(ClusterState& state, Instant at) { state.SetTimer(state.move_at, at, TimerKind::kMove, 0); }

std::string Figure(int64_t us) { return absl::StrFormat("%d.%02d", us / 1000, us % 1000 / 10); }

int64_t GainPermille(int64_t before_us, int64_t after_us) {
  return before_us > 0 ? (before_us - after_us) * 1000 / before_us : 0;
}

// "step 4.10 -> 2.90 ms, 29 % (limit 15 %)"
std::string DescribeGain(const ClusterState& state, int64_t before_us, int64_t after_us) {
  return absl::StrFormat("step %s -> %s ms, %d %% (limit %d %%)", Figure(before_us), Figure(after_us),
                         GainPermille(before_us, after_us) / 10, state.options.move_gain_permille / 10);
}

// Why no move is begun now; empty: the cluster is calm.
std::string Unrest(const ClusterState& state) {
  if (!state.drains.empty()) return "a drain is under way";
  if (state.waiting.requests > 0) return "requests wait";
  if (!state.probes.empty()) return "a link is being measured";
  if (state.room_missing) return "a replica waits for room";
  for (const Model& model : state.models) {
    const bool lacks = !model.blocked && state.Replicas(model) < state.Wanted(model);
    if (lacks && model.report.verdict != Verdict::kNever) return absl::StrCat(Name(model), " lacks a replica");
  }
  for (const auto& [id, group] : state.groups) {
    if (group.state != GroupState::kReady || !group.CountsAsReplica()) {
      return absl::StrCat(Name(id), " is ", Words(group.state));
    }
  }
  return "";
}

// What a step of the model's usual batch takes on this set, its share of the prompts' prefill included: the slowest
// member's time. 0: it cannot be said.
int64_t StepUs(const Planning& planning, const Model& model, const placement::PlannedGroup& group) {
  const placement::ModelDemand& demand = planning.demand.models[group.model];
  const placement::Shape& shape = demand.shapes[group.shape];
  if (shape.ranks > 1 && group.ring.order.empty()) return 0;
  placement::ModelWork work;
  work.layers = demand.workload.layers;
  work.hidden = demand.workload.hidden;
  work.element_bytes = demand.workload.element_bytes;
  work.parameters = model.spec.parameters;
  work.weight_bytes =
      model.spec.costs[planning.cost_of_shape[group.model][group.shape]].static_bytes.value * shape.ranks;
  work.kv_bytes_per_token = shape.kv_bytes_per_token * shape.ranks;
  int64_t slowest = 0;
  for (const placement::DeviceRef& ref : group.devices) {
    const placement::StepGroup on = {.chip = planning.topology.hosts[ref.host].devices[ref.device].chip,
                                     .ranks = shape.ranks,
                                     .ring = group.ring.order.empty() ? nullptr : &group.ring};
    slowest = std::max(slowest, placement::ServingStepNs(work, on, demand.workload, demand.workload.decode_batch));
  }
  return slowest / 1000;
}

// The number of pairs of the set whose link was measured, and of all.
std::pair<int, int> Measured(const ClusterState& state, const std::vector<DeviceId>& devices) {
  int measured = 0, pairs = 0;
  for (size_t i = 0; i < devices.size(); ++i) {
    for (size_t j = i + 1; j < devices.size(); ++j) {
      const auto link = state.links.find(std::minmax(devices[i], devices[j]));
      measured += link != state.links.end() && link->second.bytes_per_second > 0;
      ++pairs;
    }
  }
  return {measured, pairs};
}

std::vector<int> WantedNow(const ClusterState& state) {
  std::vector<int> wanted;
  for (const Model& model : state.models) wanted.push_back(state.Replicas(model));
  return wanted;
}

// The model's replica that takes longest for a step, and that time; the first among equals.
struct Slowest {
  GroupId group;
  int64_t step_us = 0;
  int ranks = 0;
};
std::optional<Slowest> SlowestOf(const ClusterState& state, const Planning& as_is, const Model& model) {
  std::optional<Slowest> slowest;
  for (const placement::PlannedGroup& group : as_is.plan.groups) {
    if (group.model != static_cast<int>(model.id.value) || group.kept < 0 || group.shape < 0) continue;
    const int64_t step_us = StepUs(as_is, model, group);
    if (step_us == 0 || (slowest.has_value() && slowest->step_us >= step_us)) continue;
    const DeviceId first = as_is.devices[group.devices.front().host][group.devices.front().device];
    for (GroupId id : model.groups) {
      const Group& there = *state.Find(id);
      if (there.CountsAsReplica() && there.Rank0() == first) {
        slowest = Slowest{id, step_us, static_cast<int>(there.members.size())};
      }
    }
  }
  return slowest;
}

// The pause of a model doubles with each move or attempt; one that has rested for the longest pause begins anew.
void Rest(ClusterState& state, Model& model) {
  const CoreOptions& options = state.options;
  const bool rested = model.next_move + options.move_rest_most <= state.now;
  model.move_rest = model.move_rest.us == 0 || rested
                        ? options.move_rest
                        : std::min(options.move_rest_most, Duration{model.move_rest.us * 2});
  model.next_move = state.now + model.move_rest;
}

void Begin(ClusterState& state, Model& model, const Slowest& from, const Planning& planning,
           const placement::PlannedGroup& place, int64_t after_us, Actions& out) {
  const std::string gain = DescribeGain(state, from.step_us, after_us);
  PlacementReport report = DescribePlaced(state, model, planning, place);
  absl::StrAppend(&report.sentence, "; to take the place of ", Name(from.group), ": ", gain);
  model.report = report;
  StartGroup(state, model, report, out);
  const GroupId to = model.groups.back();
  state.Find(to)->successor = true;
  state.move = {from.group, to, from.step_us, after_us};
  model.move_note = absl::StrCat(Name(from.group), " moves to ", Name(to), " when that is ready: ", gain);
  Rest(state, model);
}

// One look at one model. True: its move has begun.
bool Look(ClusterState& state, Model& model, const Planning& as_is, Actions& out) {
  const std::optional<Slowest> from = SlowestOf(state, as_is, model);
  if (!from.has_value()) return false;
  const Planning planning = PlanAll(state, WantedNow(state), {.leaving = {from->group}});
  const auto place = std::find_if(planning.plan.groups.begin(), planning.plan.groups.end(), [&](const auto& group) {
    return group.model == static_cast<int>(model.id.value) && group.kept < 0;
  });
  const std::string stays = absl::StrCat(Name(from->group), " stays where it is: ");
  if (place == planning.plan.groups.end()) {
    model.move_note = absl::StrCat(stays,
                                   "what is free has no room for another beside it, and nothing moves that "
                                   "would have to leave first");
    return false;
  }
  std::vector<DeviceId> devices;
  bool shares = false;
  for (const placement::DeviceRef& ref : place->devices) {
    devices.push_back(planning.devices[ref.host][ref.device]);
    shares |= !state.At(devices.back()).groups.empty();
  }
  if (static_cast<int>(devices.size()) != from->ranks) {
    model.move_note = absl::StrCat(stays, "what is free would have it at another degree");
    return false;
  }
  const int64_t after_us = StepUs(planning, model, *place);
  const std::string gain =
      absl::StrCat("on ", List(state, devices, 8), ", ", DescribeGain(state, from->step_us, after_us));
  const bool enough = after_us > 0 && GainPermille(from->step_us, after_us) >= state.options.move_gain_permille &&
                      from->step_us - after_us >= kLeastGainUs;
  if (!enough) {
    model.move_note = absl::StrCat(stays, "the best of what is free is ", gain);
    return false;
  }
  if (shares) {
    model.move_note = absl::StrCat(stays, gain, ", but it would share a device");
    return false;
  }
  // A label promises; a measurement is. Only equals are compared.
  const auto [measured_here, pairs] = Measured(state, DevicesOf(*state.Find(from->group)));
  const int measured_there = Measured(state, devices).first;
  if (pairs > 0 && measured_here == pairs && measured_there < pairs) {
    model.move_note = absl::StrCat(stays, gain, ", but ", pairs - measured_there, " of ", Count(pairs, "link"),
                                   " there are not measured, and all of its own are");
    return false;
  }
  Begin(state, model, *from, planning, *place, after_us, out);
  return true;
}

void End(ClusterState& state) {
  state.move = {};
  LookAt(state, kNever);
  LookForMovesSoon(state);
}

void GiveUp(ClusterState& state, Model& model, const std::string& why, Actions& out) {
  const Move move = state.move;
  model.move_note = absl::StrCat("the move of ", Name(move.from), " to ", Name(move.to), " was given up: ", why);
  out.push_back(Tell{Name(model), model.move_note});
  End(state);
}

// The successor serves: from now on it is the replica, and the group ends what it has.
void ChangePlaces(ClusterState& state, Model& model, Group& from, Group& to, Actions& out) {
  const std::string why =
      absl::StrCat("moved to ", Name(to.id), ": ", DescribeGain(state, state.move.before_us, state.move.after_us));
  to.successor = false;
  from.retiring = true;
  StopAdmitting(state, from, why, out);
  state.drains_touched = true;
  state.helped.insert(model.id);
  model.move_note = absl::StrCat(Name(from.id), " ", why);
  LookAt(state, state.now + state.options.drain_deadline);
}

// It takes too long to end what it has: that goes on at its successor.
void MigrateRest(ClusterState& state, Group& from, Actions& out) {
  const std::vector<Serial> serials(from.requests.begin(), from.requests.end());
  for (Serial serial : serials) AbortCurrent(state, state.At(serial), "its group moved", out);
  state.SetTimer(from.deadline, state.now + state.options.leave_deadline, TimerKind::kGroup, from.id.value);
}

}  // namespace

bool IsSuccessor(const ClusterState& state, const Group& group) { return group.successor && state.move.to == group.id; }

void LookForMovesSoon(ClusterState& state) {
  if (state.options.move_gain_permille <= 0 || state.move.UnderWay()) return;
  state.models_to_look_at = static_cast<uint32_t>(state.models.size());
  LookAt(state, state.now + state.options.move_calm);
}

void OnMoveTimer(ClusterState& state, Actions& out) {
  state.move_at = kNever;
  if (state.move.UnderWay()) {
    Group* from = state.Find(state.move.from);
    if (from != nullptr && from->retiring && from->InService()) MigrateRest(state, *from, out);
    return;
  }
  if (!state.settled || !Unrest(state).empty()) return LookForMovesSoon(state);
  Instant next = kNever;
  std::optional<Planning> as_is;
  while (state.models_to_look_at > 0) {
    Model& model = state.models[--state.models_to_look_at];
    if (model.groups.empty()) continue;
    if (state.now < model.next_move) {
      next = std::min(next, model.next_move);
      continue;
    }
    if (as_is.has_value()) {  // one model a look
      ++state.models_to_look_at;
      return LookAt(state, state.now + kBetweenLooks);
    }
    as_is = PlanAll(state, WantedNow(state));
    if (Look(state, model, *as_is, out)) return;
  }
  if (next == kNever) return;
  state.models_to_look_at = static_cast<uint32_t>(state.models.size());
  LookAt(state, next);
}

void UpdateMove(ClusterState& state, Actions& out) {
  if (!state.move.UnderWay()) return;
  Group* from = state.Find(state.move.from);
  Group* to = state.Find(state.move.to);
  if (to == nullptr || !to->successor) {
    // They changed places, or the successor is gone. A group that was taken back serves on.
    if (to == nullptr && from != nullptr && from->CountsAsReplica()) {
      const Group* ended = std::as_const(state).Find(state.move.to);
      return GiveUp(state, state.At(from->model), ended != nullptr ? ended->reason : "it ended", out);
    }
    if (to == nullptr || from == nullptr || !from->retiring) End(state);
    return;
  }
  Model& model = state.At(to->model);
  if (!to->Serves()) {
    to->successor = false;
    return GiveUp(state, model, to->reason, out);
  }
  if (from == nullptr || !from->CountsAsReplica()) {
    // What it was to relieve went by itself, or is to go. Replicas() does not count a successor.
    if (to->outdated || to->leaving || state.Replicas(model) >= state.Wanted(model)) {
      AbortNow(state, *to, Reason::kDraining, "what it was to take the place of is not needed any more", out);
      return UpdateMove(state, out);
    }
    to->successor = false;
    model.move_note = absl::StrCat(Name(to->id), " came to move ", Name(state.move.from), ", and replaces it");
    out.push_back(Tell{Name(to->id), absl::StrCat("replaces ", Name(state.move.from), ", which it was to relieve")});
    state.place_wanted = true;
    state.drains_touched = true;
    return End(state);
  }
  if (to->state == GroupState::kReady) return ChangePlaces(state, model, *from, *to, out);
  if (state.room_missing) {
    AbortNow(state, *to, Reason::kDraining, "a replica waits for room, and goes before a move", out);
    UpdateMove(state, out);
  }
}

std::string ExplainMove(const ClusterState& state, const Model& model) {
  if (state.options.move_gain_permille <= 0) return "";
  if (model.move_note.empty()) return "";
  const std::string rests =
      state.now < model.next_move ? absl::StrCat("; it rests for another ", Words(model.next_move - state.now)) : "";
  return absl::StrCat("moves: ", model.move_note, rests);
}

}  // namespace tandem::core
