#include "scheduler/core/placement.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "placement/planner/planner.h"
#include "scheduler/core/group.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/planning.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/rebalance.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

std::string Describe(const ClusterState& state, const Model& model, const Need& need, const Device& device,
                     Obstacle obstacle) {
  const ModelSpec& spec = model.spec;
  std::string text = absl::StrCat(Name(state, device.id), ": ");
  switch (obstacle) {
    case Obstacle::kTooSmall:
      return absl::StrCat(text, Words(ShareOf(spec, device.spec)), " in all, needs ", Words(need.Least()));
    case Obstacle::kMemoryTaken:
      return ShortOfMemory(state, device, need.Least());
    case Obstacle::kBusy:
      for (const GroupId id : device.groups) {
        const Group& group = *state.Find(id);
        if (!InTheWay(state, model.id, need.degree, group)) continue;
        return absl::StrCat(text, "busy with ", Name(id), " of ", Name(state.At(group.model)));
      }
      if (device.leftovers.empty()) return absl::StrCat(text, "holds what may be adopted yet");
      return absl::StrCat(text, "has yet to leave ", Name(device.leftovers.front().group));
    case Obstacle::kCordoned:
      if (device.Quarantined()) return absl::StrCat(text, device.reason);
      [[fallthrough]];
    default:
      return absl::StrCat(text, Describe(obstacle), device.reason.empty() ? "" : ", ", device.reason);
  }
}

// Why there is no place at one degree, host by host.
struct Trial {
  Need need;
  Verdict verdict = Verdict::kNever;
  int considered = 0;
  int counts[kObstacles] = {};
  std::vector<Loser> losers;
  size_t largest_host = 0;
};

Trial Try(const ClusterState& state, const Model& model, const Need& need) {
  Trial trial{need};
  const size_t degree = static_cast<size_t>(need.degree);
  for (const std::vector<DeviceId>& host : HostsOf(state)) {
    trial.largest_host = std::max(trial.largest_host, host.size());
    size_t with_time = 0, with_an_operator = 0;
    for (DeviceId id : host) {
      const Device& device = state.devices[id.value];
      ++trial.considered;
      const std::optional<Obstacle> obstacle = ObstacleTo(state, model, need, device);
      if (!obstacle.has_value()) {
        ++with_time, ++with_an_operator;
        continue;
      }
      ++trial.counts[static_cast<int>(*obstacle)];
      if (trial.losers.size() < kMostLosers) {
        trial.losers.push_back({id, *obstacle, Describe(state, model, need, device, *obstacle)});
      }
      if (*obstacle == Obstacle::kTooSmall) continue;
      ++with_an_operator;
      if (!device.drain_wanted && !device.cordoned && !device.parked) ++with_time;
    }
    if (with_time >= degree) {
      trial.verdict = Verdict::kLater;
    } else if (with_an_operator >= degree && trial.verdict == Verdict::kNever) {
      trial.verdict = Verdict::kDraining;
    }
  }
  return trial;
}

// Devices that the configuration promised may be all that is missing.
bool ClusterIncomplete(const ClusterState& state) {
  return state.devices.empty() || static_cast<int>(state.devices.size()) < state.expected_devices;
}

std::string Sentence(const ClusterState& state, const Model& model, const Trial& trial, Verdict verdict) {
  const Need& need = trial.need;
  const std::string bytes =
      absl::StrCat(Words(need.Least()), need.degree > 1 ? " each" : "", " (", Words(need.static_bytes),
                   " weights and activations + ", Words(need.kv_min), " KV for ", model.spec.max_model_len, " tokens)");
  const std::string wants = absl::StrCat(Name(model), " needs ", Count(need.degree, "device"),
                                         need.degree > 1 ? " of one node" : "", " with ", bytes);
  std::vector<std::string> who;
  for (const Loser& loser : trial.losers) who.push_back(loser.text);
  const std::string there = who.empty() ? "devices that are kept for another model" : List(who);
  if (verdict == Verdict::kLater && ClusterIncomplete(state)) {
    const std::string expected =
        state.expected_devices > 0 ? absl::StrCat(state.expected_devices) : "an unknown number of";
    return absl::StrCat(wants, "; ", state.devices.size(), " of ", expected, " devices have attached",
                        who.empty() ? "" : "; ", who.empty() ? "" : there);
  }
  const bool too_few = trial.largest_host < static_cast<size_t>(need.degree);
  const std::string largest =
      absl::StrCat("; the most of one kind on one node ", trial.largest_host == 1 ? "is " : "are ",
                   Count(static_cast<int64_t>(trial.largest_host), "device"));
  const std::string never = absl::StrCat("; no node can ever give that", who.empty() ? "" : ": ", List(who));
  return absl::StrCat(wants, verdict == Verdict::kNever ? never : absl::StrCat("; waits for ", there),
                      too_few ? largest : "");
}

bool SharesDevice(const ClusterState& state, const std::vector<DeviceId>& devices) {
  return std::any_of(devices.begin(), devices.end(), [&](DeviceId id) { return !state.At(id).groups.empty(); });
}

// A worker forms and loads one group after the other; what it took, it says when it has loaded.
bool LoadsAnother(const ClusterState& state, const std::vector<DeviceId>& devices) {
  return std::any_of(devices.begin(), devices.end(), [&](DeviceId id) {
    const std::vector<GroupId>& groups = state.At(id).groups;
    return std::any_of(groups.begin(), groups.end(),
                       [&](GroupId group) { return state.Find(group)->ready_at == kNever; });
  });
}

// ", beside groups/7 of models/chat" where the devices are not its own.
std::string Beside(const ClusterState& state, const std::vector<DeviceId>& devices) {
  std::vector<std::string> names;
  for (DeviceId id : devices) {
    for (GroupId group : state.At(id).groups) {
      names.push_back(absl::StrCat(Name(group), " of ", Name(state.At(state.Find(group)->model))));
    }
  }
  return names.empty() ? "" : absl::StrCat(", beside ", List(names));
}

std::vector<DeviceId> DevicesOf(const Planning& planning, const placement::PlannedGroup& group) {
  std::vector<DeviceId> devices;
  for (const placement::DeviceRef& ref : group.devices) devices.push_back(planning.devices[ref.host][ref.device]);
  return devices;
}

// What the requests of a model without a replica, now or soon, are told.
void Judge(ClusterState& state, Model& model, Actions& out) {
  if (model.blocked || model.undeployed) return;
  const bool served = state.IsServed(model);
  Reason refused = Reason::kNone;
  if (!served && model.report.verdict == Verdict::kNever) refused = Reason::kNeverFits;
  if (!served && model.report.verdict == Verdict::kDraining) refused = Reason::kDraining;
  if (refused == Reason::kNone && model.refused != Reason::kNone)
    out.push_back(Tell{Name(model), "may be served again"});
  const bool news = refused != Reason::kNone && refused != model.refused;
  model.refused = refused;
  model.refused_why = refused == Reason::kNone ? "" : model.report.sentence;
  if (news) out.push_back(Tell{Name(model), absl::StrCat("refused as ", Words(refused), ": ", model.refused_why)});
  if (refused != Reason::kNone) FailQueue(state, model, refused, model.refused_why, out);
}

}  // namespace

PlacementReport DescribePlaced(const ClusterState& state, const Model& model, const Planning& planning,
                               const placement::PlannedGroup& group) {
  const ShardCost& cost = model.spec.costs[planning.cost_of_shape[group.model][group.shape]];
  const Need need = NeedOf(planning.kinds, model, cost);
  const placement::ModelReport& found = planning.plan.reports[group.model];
  PlacementReport report;
  report.at = state.now;
  report.verdict = Verdict::kPlaced;
  report.tensor_parallel = need.degree;
  report.static_bytes = need.static_bytes;
  report.kv_min = need.kv_min;
  report.kv_target = std::max(need.kv_min, Bytes{group.kv_bytes});
  report.chosen = DevicesOf(planning, group);
  report.considered = static_cast<int>(state.devices.size());
  report.counts.assign(std::begin(found.excluded), std::end(found.excluded));
  report.degrees = found.degrees;
  if (!found.choice.empty()) report.degrees.push_back(absl::StrCat("auto: ", found.choice));
  const std::string fitting = Count(found.candidates, need.degree > 1 ? "set" : "device");
  report.sentence =
      absl::StrCat(Name(model), " on ", List(state, report.chosen, 8), Beside(state, report.chosen), ", of ", fitting,
                   found.candidates == 1 ? " that fits" : " that fit", placement::DescribeRing(group), ", for ",
                   Words(need.Least()), need.degree > 1 ? " each" : "", " (", Words(need.static_bytes),
                   " weights and activations + ", Words(need.kv_min), " KV for ", model.spec.max_model_len, " tokens)");
  return report;
}

// At the degree with the best prospects.
PlacementReport WhyNot(const ClusterState& state, const Model& model) {
  PlacementReport report;
  report.at = state.now;
  report.verdict = Verdict::kNever;
  report.sentence = absl::StrCat(Name(model), " has no tensor-parallel degree that is possible");
  const std::vector<std::string> kinds = KindsOf(state);
  std::optional<Trial> best;
  for (const ShardCost& cost : model.spec.costs) {
    if (model.spec.tensor_parallel != 0 && cost.tensor_parallel != model.spec.tensor_parallel) continue;
    if (!cost.impossible.empty()) {
      report.degrees.push_back(absl::StrCat("tp=", cost.tensor_parallel, ": ", cost.impossible));
      if (!best.has_value()) report.sentence = absl::StrCat(Name(model), " at ", report.degrees.back());
      continue;
    }
    Trial trial = Try(state, model, NeedOf(kinds, model, cost));
    if (trial.verdict == Verdict::kNever && ClusterIncomplete(state)) trial.verdict = Verdict::kLater;
    report.degrees.push_back(
        absl::StrCat("tp=", cost.tensor_parallel, ": ", Words(trial.need.Least()), " per device, not placed"));
    if (!best.has_value() || trial.verdict < best->verdict) best = std::move(trial);
  }
  if (!best.has_value()) return report;
  report.verdict = best->verdict;
  report.tensor_parallel = best->need.degree;
  report.static_bytes = best->need.static_bytes;
  report.kv_min = best->need.kv_min;
  report.kv_target = best->need.kv_most;
  report.considered = best->considered;
  report.sentence = Sentence(state, model, *best, best->verdict);
  report.losers = std::move(best->losers);
  report.counts.assign(std::begin(best->counts), std::end(best->counts));
  return report;
}

void PlaceMissing(ClusterState& state, Actions& out) {
  state.place_wanted = false;
  if (!state.settled) return;
  TakeBackNeeded(state, out);
  state.load_awaited = false;
  std::vector<ModelId> order;
  std::vector<int> wanted, missing;
  bool any = false;
  for (const Model& model : state.models) {
    order.push_back(model.id);
    const int there = state.Replicas(model);
    // What a blocked model lacks is not planned for; what one that waits after a failure lacks keeps its devices.
    wanted.push_back(model.blocked ? there : std::max(there, state.Wanted(model)));
    missing.push_back(wanted.back() - there);
    any |= missing.back() > 0;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](ModelId a, ModelId b) { return state.At(a).spec.priority > state.At(b).spec.priority; });
  if (any) {
    const Planning planning = PlanAll(state, wanted);
    for (const ModelId id : order) {
      Model& model = state.At(id);
      for (const placement::PlannedGroup& group : planning.plan.groups) {
        if (group.model != static_cast<int>(id.value) || group.kept >= 0) continue;
        // What was promised may share a device; a replica more for a busy model must not slow others down.
        const bool promised = state.Replicas(model) < model.spec.replicas_min;
        if (!promised && SharesDevice(state, DevicesOf(planning, group))) continue;
        --missing[id.value];
        if (WaitsToRetry(state, model)) continue;
        if (LoadsAnother(state, DevicesOf(planning, group))) {
          state.load_awaited = true;
          continue;
        }
        model.report = DescribePlaced(state, model, planning, group);
        StartGroup(state, model, model.report, out);
      }
    }
  }
  state.memory_awaited = false;
  state.room_missing = false;
  for (const ModelId id : order) {
    Model& model = state.At(id);
    model.waits_for.clear();
    if (model.blocked && state.Replicas(model) < state.Wanted(model)) {
      model.waits_for = model.refused_why;
    } else if (missing[id.value] > 0) {
      model.report = WhyNot(state, model);
      model.waits_for = model.report.sentence;
      state.room_missing |= model.report.verdict != Verdict::kNever;
      if (model.report.counts[static_cast<int>(Obstacle::kMemoryTaken)] > 0) state.memory_awaited = true;
    } else if (!WaitsToRetry(state, model) && state.Replicas(model) < state.Wanted(model) && missing[id.value] == 0) {
      model.waits_for = absl::StrCat(Name(model), " waits until the device that it will share has loaded");
    } else if (WaitsToRetry(state, model) && state.Replicas(model) < state.Wanted(model)) {
      model.waits_for = absl::StrCat("tries again in ", Words(model.retry_at - state.now), " after a failure");
    }
    // Also where a second replica is missing that has no place: the first one must not wait for it.
    if (WaitsToRetry(state, model) && state.Replicas(model) < state.Wanted(model)) {
      state.SetTimer(state.placement_at, std::min(state.placement_at, model.retry_at), TimerKind::kPlacement, 0);
    }
    state.drains_touched |= IsRolling(state, model);  // what it found may let a group close
    Judge(state, model, out);
  }
  LookForMovesSoon(state);
}

bool WaitsToRetry(const ClusterState& state, const Model& model) {
  return model.retry_at != kNever && state.now < model.retry_at;
}

void BackOff(ClusterState& state, Model& model) {
  const CoreOptions& options = state.options;
  model.back_off =
      model.back_off.us == 0 ? options.retry_first : std::min(options.retry_most, Duration{model.back_off.us * 2});
  model.retry_at = state.now + model.back_off;
  state.place_wanted = true;
}

void ReconsiderAll(ClusterState& state) {
  for (Model& model : state.models) {
    if (!model.blocked) continue;
    model.blocked = false;
    model.refused = Reason::kNone;
    model.refused_why.clear();
  }
  state.place_wanted = true;
}

}  // namespace tandem::core
