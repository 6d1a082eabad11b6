#include "scheduler/core/placement.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/core/group.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

constexpr int64_t kBlockTokens = 16;

// What one rank takes at one degree.
struct Need {
  int degree = 1;
  Bytes static_bytes, kv_min, kv_most;
  Bytes Least() const { return static_bytes + kv_min; }
};

Need NeedOf(const ClusterState& state, const Model& model, const ShardCost& cost) {
  const ModelSpec& spec = model.spec;
  const int64_t context = (std::max<int64_t>(1, spec.max_model_len) + kBlockTokens - 1) / kBlockTokens * kBlockTokens;
  const Bytes static_bytes = PlannedStatic(state, model, cost.tensor_parallel);
  Need need{cost.tensor_parallel, static_bytes, {cost.kv_bytes_per_token.value * context}, {}};
  need.kv_most = {need.kv_min.value * std::max<int64_t>(1, spec.max_sequences)};
  if (spec.kv_most.value > 0) need.kv_most = std::max(need.kv_min, std::min(need.kv_most, spec.kv_most));
  return need;
}

// The most that this model may ever have of the device.
Bytes Share(const ModelSpec& spec, const DeviceSpec& device) {
  const double cap = spec.memory_utilization * static_cast<double>(device.memory_total.value);
  return std::min(device.memory_budget, Bytes{static_cast<int64_t>(cap)});
}
Bytes Available(const ModelSpec& spec, const Device& device) {
  return std::min(Share(spec, device.spec), FreeToUse(device));
}

std::optional<Obstacle> Test(const ModelSpec& spec, const Need& need, const Device& device) {
  if (Share(spec, device.spec) < need.Least()) return Obstacle::kTooSmall;
  if (!device.attached) return Obstacle::kLost;
  if (device.suspect) return Obstacle::kSuspect;
  if (device.drain_wanted || device.parked) return Obstacle::kDraining;
  if (device.cordoned) return Obstacle::kCordoned;
  if (!device.Free()) return Obstacle::kBusy;
  if (FreeToUse(device) < need.Least()) return Obstacle::kMemoryTaken;
  return std::nullopt;
}

std::string Describe(const ClusterState& state, const ModelSpec& spec, const Need& need, const Device& device,
                     Obstacle obstacle) {
  std::string text = absl::StrCat(Name(state, device.id), ": ");
  switch (obstacle) {
    case Obstacle::kTooSmall:
      return absl::StrCat(text, Words(Share(spec, device.spec)), " in all, needs ", Words(need.Least()));
    case Obstacle::kMemoryTaken:
      return ShortOfMemory(state, device, need.Least());
    case Obstacle::kBusy:
      if (!device.groups.empty()) {
        const Group& group = *state.Find(device.groups.front());
        return absl::StrCat(text, "busy with ", Name(group.id), " of ", Name(state.At(group.model)));
      }
      return absl::StrCat(text, "has yet to leave ", Name(device.leftovers.front().group));
    default:
      return absl::StrCat(text, Describe(obstacle), device.reason.empty() ? "" : ", ", device.reason);
  }
}

// The attempt at one degree.
struct Trial {
  Need need;
  std::vector<DeviceId> chosen;
  Verdict verdict = Verdict::kNever;
  int considered = 0;  // devices looked at: all, or those up to the first fit
  int counts[kObstacles] = {};
  std::vector<Loser> losers;
  size_t largest_node = 0;
};

Trial Try(const ClusterState& state, const ModelSpec& spec, const Need& need) {
  Trial trial{need};
  const size_t degree = static_cast<size_t>(need.degree);
  for (const Node& node : state.nodes) {
    trial.largest_node = std::max(trial.largest_node, node.devices.size());
    std::vector<DeviceId> usable;
    size_t with_time = 0, with_an_operator = 0;
    for (DeviceId id : node.devices) {
      const Device& device = state.devices[id.value];
      ++trial.considered;
      const std::optional<Obstacle> obstacle = Test(spec, need, device);
      if (!obstacle.has_value()) {
        usable.push_back(id);
        ++with_time, ++with_an_operator;
        continue;
      }
      ++trial.counts[static_cast<int>(*obstacle)];
      if (trial.losers.size() < kMostLosers) {
        trial.losers.push_back({id, *obstacle, Describe(state, spec, need, device, *obstacle)});
      }
      if (*obstacle == Obstacle::kTooSmall) continue;
      ++with_an_operator;
      if (!device.drain_wanted && !device.cordoned && !device.parked) ++with_time;
    }
    if (usable.size() >= degree) {
      usable.resize(degree);
      trial.chosen = std::move(usable);
      trial.verdict = Verdict::kPlaced;
      return trial;
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
  if (verdict == Verdict::kPlaced) {
    return absl::StrCat(Name(model), " on ", List(state, trial.chosen, 8), ", the first fit of ",
                        Count(static_cast<int64_t>(state.devices.size()), "device"), " for ", bytes);
  }
  const std::string wants = absl::StrCat(Name(model), " needs ", Count(need.degree, "device"),
                                         need.degree > 1 ? " of one node" : "", " with ", bytes);
  std::vector<std::string> who;
  for (const Loser& loser : trial.losers) who.push_back(loser.text);
  const std::string there = who.empty() ? "no device" : List(who);
  if (verdict == Verdict::kLater && ClusterIncomplete(state)) {
    const std::string expected =
        state.expected_devices > 0 ? absl::StrCat(state.expected_devices) : "an unknown number of";
    return absl::StrCat(wants, "; ", state.devices.size(), " of ", expected, " devices have attached",
                        who.empty() ? "" : "; ", who.empty() ? "" : there);
  }
  const bool too_few = trial.largest_node < static_cast<size_t>(need.degree);
  const std::string largest =
      absl::StrCat("; the largest node has ", Count(static_cast<int64_t>(trial.largest_node), "device"));
  return absl::StrCat(wants, verdict == Verdict::kNever ? "; no node can ever give that: " : "; waits for ", there,
                      too_few ? largest : "");
}

int Rank(Verdict verdict) {  // which of two degrees has better prospects
  switch (verdict) {
    case Verdict::kPlaced:
      return 4;
    case Verdict::kLater:
      return 3;
    case Verdict::kDraining:
      return 2;
    case Verdict::kNever:
      return 1;
    case Verdict::kNotTried:
      return 0;
  }
  return 0;
}

// What the requests of a model without a replica, now or soon, are told.
void Judge(ClusterState& state, Model& model, Actions& out) {
  if (model.blocked) return;
  const bool served = std::any_of(model.groups.begin(), model.groups.end(),
                                  [&](GroupId id) { return state.Find(id)->CountsAsReplica(); });
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

void PlaceReplicas(ClusterState& state, Model& model, Actions& out) {
  int missing = model.spec.replicas_min - state.Replicas(model);
  while (missing > 0) {
    if (model.blocked) {
      model.waits_for = model.refused_why;
      return;
    }
    model.report = Place(state, model);
    model.waits_for = model.report.sentence;
    if (model.report.verdict != Verdict::kPlaced) break;
    if (model.retry_at != kNever && state.now < model.retry_at) {
      model.waits_for = absl::StrCat("tries again in ", Words(model.retry_at - state.now), " after a failure");
      state.SetTimer(state.placement_at, std::min(state.placement_at, model.retry_at), TimerKind::kPlacement, 0);
      break;
    }
    StartGroup(state, model, model.report, out);
    --missing;
  }
  if (missing <= 0) model.waits_for.clear();
  Judge(state, model, out);
}

}  // namespace

PlacementReport Place(const ClusterState& state, const Model& model) {
  PlacementReport report;
  report.at = state.now;
  report.verdict = Verdict::kNever;
  report.sentence = absl::StrCat(Name(model), " has no tensor-parallel degree that is possible");
  std::optional<Trial> best;
  for (const ShardCost& cost : model.spec.costs) {
    if (model.spec.tensor_parallel != 0 && cost.tensor_parallel != model.spec.tensor_parallel) continue;
    if (!cost.impossible.empty()) {
      report.degrees.push_back(absl::StrCat("tp=", cost.tensor_parallel, ": ", cost.impossible));
      if (!best.has_value()) report.sentence = absl::StrCat(Name(model), " at ", report.degrees.back());
      continue;
    }
    Trial trial = Try(state, model.spec, NeedOf(state, model, cost));
    if (trial.verdict == Verdict::kNever && ClusterIncomplete(state)) trial.verdict = Verdict::kLater;
    report.degrees.push_back(absl::StrCat("tp=", cost.tensor_parallel, ": ", Words(trial.need.Least()), " per device, ",
                                          trial.verdict == Verdict::kPlaced ? "placed" : "not placed"));
    if (!best.has_value() || Rank(trial.verdict) > Rank(best->verdict)) best = std::move(trial);
    if (best->verdict == Verdict::kPlaced) break;  // the smallest degree that fits
  }
  if (!best.has_value()) return report;
  report.verdict = best->verdict;
  report.tensor_parallel = best->need.degree;
  report.static_bytes = best->need.static_bytes;
  report.kv_min = best->need.kv_min;
  report.chosen = best->chosen;
  report.considered = best->considered;
  report.sentence = Sentence(state, model, *best, best->verdict);
  report.losers = std::move(best->losers);
  report.counts.assign(std::begin(best->counts), std::end(best->counts));
  report.kv_target = best->need.kv_most;
  for (DeviceId id : report.chosen) {
    report.kv_target = std::min(report.kv_target, Available(model.spec, state.At(id)) - report.static_bytes);
  }
  return report;
}

void PlaceMissing(ClusterState& state, Actions& out) {
  state.place_wanted = false;
  if (!state.settled) return;
  std::vector<ModelId> order;
  for (const Model& model : state.models) order.push_back(model.id);
  std::stable_sort(order.begin(), order.end(),
                   [&](ModelId a, ModelId b) { return state.At(a).spec.priority > state.At(b).spec.priority; });
  state.memory_awaited = false;
  for (ModelId id : order) {
    Model& model = state.At(id);
    PlaceReplicas(state, model, out);
    const bool memory_taken = model.report.counts[static_cast<int>(Obstacle::kMemoryTaken)] > 0;
    if (!model.waits_for.empty() && memory_taken) state.memory_awaited = true;
  }
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
