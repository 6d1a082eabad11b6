#include "scheduler/core/pool.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/group.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/planning.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

constexpr int64_t kFull = 85;   // per cent of KV: the next request of usual length may not fit
constexpr int64_t kSpare = 50;  // per cent: a replica fewer than that needs is not missed when demand doubles
// Plans tried in one look for a replica to move. Replicas of one model are mostly alike, so the first ones tell.
constexpr int kMostTrials = 8;
// Times pool_down_after that the only replica is kept without a request: to wake a model takes a load of its weights.
constexpr int64_t kLastStays = 5;

bool IsPooled(const Model& model) { return model.spec.replicas_max > model.spec.replicas_min; }

// What some groups have and what is taken of it.
struct Use {
  int groups = 0;
  Tokens booked, limit;
  int64_t requests = 0, places = 0;  // places: what engines run at once, without their queues

  void Add(const Group& group) {
    ++groups;
    booked += group.kv.Load();
    limit += group.kv.limit;
    requests += static_cast<int64_t>(group.requests.size());
    places += group.max_sequences;
  }
  // The same work without one of the groups.
  Use Without(const Group& group) const {
    Use rest = *this;
    --rest.groups;
    rest.limit -= group.kv.limit;
    rest.places -= group.max_sequences;
    return rest;
  }
  int64_t KvPercent() const { return limit.value > 0 ? booked.value * 100 / limit.value : 0; }
  // With no group left there is room for nothing.
  bool Below(int64_t percent) const {
    if (groups == 0) return booked.value == 0 && requests == 0;
    return booked.value * 100 < limit.value * percent && requests * 100 < places * percent;
  }
  int64_t Permille() const {
    const int64_t kv = limit.value > 0 ? booked.value * 1000 / limit.value : 1000;
    return std::max(kv, places > 0 ? requests * 1000 / places : 1000);
  }
};

struct Demand {
  Use use;         // of the ready groups
  int coming = 0;  // that form or load
  int64_t waiting = 0;
  Tokens waiting_tokens;  // of prompts
  Duration longest_wait;
};

Demand DemandFor(const ClusterState& state, const Model& model) {
  Demand demand;
  for (GroupId id : model.groups) {
    const Group& group = *state.Find(id);
    if (!group.CountsAsReplica()) continue;
    if (group.state == GroupState::kReady) {
      demand.use.Add(group);
    } else {
      ++demand.coming;
    }
  }
  demand.waiting = static_cast<int64_t>(model.queue.size());
  model.queue.ForEach([&](Serial serial, const WaitingLine::Size&) {
    const Request& request = *state.requests.at(serial);
    demand.waiting_tokens += request.prompt;
    demand.longest_wait = std::max(demand.longest_wait, state.now - request.waits_since);
  });
  return demand;
}

std::string Words(const Demand& demand) {
  std::string text = "none waiting";
  if (demand.waiting > 0) {
    text = absl::StrCat(demand.waiting, " waiting with ", Count(demand.waiting_tokens.value, "token"),
                        ", the first for ", core::Words(demand.longest_wait));
  }
  if (demand.use.groups == 0) return absl::StrCat(text, "; none ready");
  return absl::StrCat(text, "; KV ", demand.use.KvPercent(), " % booked, ", demand.use.requests, " of ",
                      Count(demand.use.places, "place"), " taken");
}

bool UnderPressure(const ClusterState& state, const Demand& demand) {
  if (demand.waiting == 0) return false;
  if (demand.use.groups + demand.coming == 0) return true;  // it sleeps
  return demand.longest_wait >= state.options.pool_up_after || demand.use.KvPercent() >= kFull;
}

// Who would leave: the least booked goes first, the newest among equals. Ready groups only.
std::vector<Group*> InOrderOfLeaving(ClusterState& state, const Model& model) {
  std::vector<Group*> groups;
  for (GroupId id : model.groups) {
    Group* group = state.Find(id);
    if (group->CountsAsReplica() && group->state == GroupState::kReady) groups.push_back(group);
  }
  std::sort(groups.begin(), groups.end(), [](const Group* a, const Group* b) {
    return std::pair(a->kv.Load(), b->id) < std::pair(b->kv.Load(), a->id);
  });
  return groups;
}

void Want(ClusterState& state, Model& model, int wanted, const std::string& why, Actions& out) {
  const int before = state.Wanted(model);
  model.pool.wanted = wanted;
  model.pool.quiet_since = kNever;
  if (wanted == before) return;
  out.push_back(Tell{Name(model), absl::StrCat("wants ", Count(wanted, "replica"), ", ", before, " before: ", why)});
  state.place_wanted = true;
}

void Retire(ClusterState& state, Group& group, const std::string& why, Actions& out) {
  group.retiring = true;
  StopAdmitting(state, group, absl::StrCat("fewer replicas are needed", why), out);
  state.drains_touched = true;
}

bool WouldDoWithOneFewer(ClusterState& state, const Model& model, const Demand& demand) {
  if (state.Wanted(model) <= model.spec.replicas_min || demand.coming > 0 || demand.waiting > 0) return false;
  if (demand.use.groups < state.Wanted(model)) return demand.use.Below(kSpare);  // one is missing, and is not missed
  return demand.use.Without(*InOrderOfLeaving(state, model).front()).Below(kSpare);
}

// How long fewer than `known` replicas have to have been enough.
Duration QuietFor(const CoreOptions& options, int known) {
  return known == 1 ? Duration{options.pool_down_after.us * kLastStays} : options.pool_down_after;
}

void Look(ClusterState& state, Model& model, Actions& out) {
  const CoreOptions& options = state.options;
  const Demand demand = DemandFor(state, model);
  // More than were wanted are there when a scheduler before this one wanted them, or a drain was undone.
  const int there = demand.use.groups + demand.coming;
  const int known = std::max(state.Wanted(model), std::min(there, model.spec.replicas_max));
  if (known > state.Wanted(model)) Want(state, model, known, "they are there", out);
  if (there > known && demand.use.groups > 0) {
    Retire(state, *InOrderOfLeaving(state, model).front(), ": more are there than the most allowed", out);
    return;
  }
  const bool may_grow = known < model.spec.replicas_max && !model.blocked && state.now >= model.pool.held_until;
  if (may_grow && demand.coming == 0 && there >= known && UnderPressure(state, demand)) {
    return Want(state, model, known + 1, Words(demand), out);
  }
  if (!WouldDoWithOneFewer(state, model, demand)) {
    model.pool.quiet_since = kNever;
    return;
  }
  if (model.pool.quiet_since == kNever) model.pool.quiet_since = state.now;
  if (state.now - model.pool.quiet_since < QuietFor(options, known)) return;
  Want(state, model, known - 1, Words(demand), out);
  if (there == known) Retire(state, *InOrderOfLeaving(state, model).front(), "", out);
}

// Below its least, which is a promise, or wanted by its clients now.
bool IsHungry(const ClusterState& state, const Model& model) {
  if (model.blocked || WaitsToRetry(state, model)) return false;
  const int there = state.Replicas(model);
  if (there >= state.Wanted(model)) return false;
  return there < model.spec.replicas_min || UnderPressure(state, DemandFor(state, model));
}

// Models that may give a replica to the hungry one, least loaded first.
std::vector<Model*> Donors(ClusterState& state, const Model& hungry) {
  const bool promised = state.Replicas(hungry) < hungry.spec.replicas_min;
  std::vector<std::pair<int64_t, ModelId>> found;
  for (const Model& model : state.models) {
    if (model.id == hungry.id || model.spec.priority > hungry.spec.priority) continue;
    const Demand demand = DemandFor(state, model);
    if (demand.coming > 0 || demand.use.groups <= model.spec.replicas_min) continue;
    const bool idle = demand.waiting == 0 && demand.use.Below(kSpare);
    if (promised || idle) found.push_back({demand.use.Permille(), model.id});
  }
  std::sort(found.begin(), found.end());
  std::vector<Model*> donors;
  for (const auto& [load, id] : found) donors.push_back(&state.At(id));
  return donors;
}

// Has a replica leave for the hungry model. False: none would help, or what leaves already is enough.
bool Feed(ClusterState& state, const Model& hungry, Actions& out) {
  const std::vector<Model*> donors = Donors(state, hungry);
  if (donors.empty()) return false;
  std::vector<GroupId> gone;
  for (const auto& [id, group] : state.groups) {
    if (group.retiring || group.ending != Ending::kNo) gone.push_back(id);
  }
  if (WouldFit(state, hungry, gone)) {
    state.place_wanted |= gone.empty();  // memory that others held has come free unnoticed
    return false;
  }
  const bool promised = state.Replicas(hungry) < hungry.spec.replicas_min;
  int trials = 0;
  for (Model* donor : donors) {
    const Use use = DemandFor(state, *donor).use;
    for (Group* group : InOrderOfLeaving(state, *donor)) {
      if (state.now < group->ready_at + state.options.pool_hold) continue;
      // Else the hunger would only change its place.
      if (!promised && !use.Without(*group).Below(kFull)) continue;
      if (++trials > kMostTrials) return false;
      gone.push_back(group->id);
      const bool helps = WouldFit(state, hungry, gone);
      gone.pop_back();
      if (!helps) continue;
      donor->pool.held_until = state.now + state.options.pool_hold;
      Want(state, *donor, use.groups - 1, absl::StrCat("one goes to ", Name(hungry), ", which needs it more"), out);
      Retire(state, *group, absl::StrCat(": ", Name(hungry), " needs its devices more"), out);
      return true;
    }
  }
  return false;
}

void MoveOne(ClusterState& state, Actions& out) {
  std::vector<const Model*> hungry;
  for (const Model& model : state.models) {
    if (IsHungry(state, model)) hungry.push_back(&model);
  }
  std::stable_sort(hungry.begin(), hungry.end(),
                   [](const Model* a, const Model* b) { return a->spec.priority > b->spec.priority; });
  for (const Model* model : hungry) {
    if (Feed(state, *model, out)) return;
  }
}

}  // namespace

bool PoolsMatter(const ClusterState& state) {
  const auto matters = [&](const Model& model) {
    if (!IsPooled(model)) return false;
    const int wanted = state.Wanted(model);
    if (!model.queue.empty() || wanted > model.spec.replicas_min) return true;
    return static_cast<int>(model.groups.size()) > wanted && state.Replicas(model) > wanted;
  };
  return state.settled && std::any_of(state.models.begin(), state.models.end(), matters);
}

bool WantsWaking(const ClusterState& state, const Model& model) {
  return !model.queue.empty() && IsPooled(model) && state.Wanted(model) == 0 && !model.blocked &&
         state.now >= model.pool.held_until;
}

void ArmPools(ClusterState& state) {
  state.pools_touched = false;
  if (state.pool_at != kNever || !PoolsMatter(state)) return;
  state.SetTimer(state.pool_at, state.now + state.options.pool_period, TimerKind::kPool, 0);
}

void OnPoolTimer(ClusterState& state, Actions& out) {
  state.pool_at = kNever;
  state.pools_touched = true;
  for (Model& model : state.models) {
    if (IsPooled(model)) Look(state, model, out);
  }
  MoveOne(state, out);
}

void WakeAsked(ClusterState& state, Actions& out) {
  if (!std::exchange(state.model_to_wake, false) || !state.settled) return;
  state.SetTimer(state.pool_at, kNever, TimerKind::kPool, 0);
  OnPoolTimer(state, out);
}

void TakeBackNeeded(ClusterState& state, Actions& out) {
  for (Model& model : state.models) {
    int missing = state.Wanted(model) - state.Replicas(model);
    for (GroupId id : model.groups) {
      Group& group = *state.Find(id);
      if (missing <= 0) break;
      if (!group.retiring || !group.InService() || group.outdated || IsDrained(state, group)) continue;
      --missing;
      group.retiring = false;
      Reopen(state, group, "it is needed again", out);
    }
  }
}

void RetireSurplus(ClusterState& state, Model& model, const std::string& why, Actions& out) {
  if (IsPooled(model)) return;
  const std::vector<GroupId> newest_first(model.groups.rbegin(), model.groups.rend());
  for (GroupId id : newest_first) {
    Group* group = state.Find(id);
    if (state.Replicas(model) <= state.Wanted(model)) return;
    if (group == nullptr || !group->CountsAsReplica() || group->state == GroupState::kReady) continue;
    AbortNow(state, *group, Reason::kDraining, why, out);
  }
  while (state.Replicas(model) > state.Wanted(model)) {
    Retire(state, *InOrderOfLeaving(state, model).front(), absl::StrCat(": ", why), out);
  }
}

void RetireOldest(ClusterState& state, Model& model, const std::string& why, Actions& out) {
  if (IsPooled(model)) return;
  const std::vector<GroupId> oldest_first = model.groups;
  for (GroupId id : oldest_first) {
    Group& group = *state.Find(id);
    if (state.Replicas(model) <= state.Wanted(model)) return;
    if (group.CountsAsReplica() && group.state == GroupState::kReady)
      Retire(state, group, absl::StrCat(": ", why), out);
  }
}

void DissolveUnneeded(ClusterState& state, Actions& out) {
  for (auto& [id, group] : state.groups) {
    if (group.retiring && group.InService() && group.requests.empty()) BeginDissolve(state, group, group.reason, out);
  }
}

std::string ExplainPool(const ClusterState& state, const Model& model) {
  if (!IsPooled(model)) return "";
  const CoreOptions& options = state.options;
  const Demand demand = DemandFor(state, model);
  std::string text = absl::StrCat("wants ", state.Wanted(model), " of ", model.spec.replicas_min, " to ",
                                  model.spec.replicas_max, " replicas: ", Words(demand));
  for (GroupId id : model.groups) {
    const Group& group = *state.Find(id);
    if (!group.retiring) continue;
    absl::StrAppend(&text, "; ", Name(id), " leaves",
                    group.requests.empty() ? "" : absl::StrCat(" after ", Count(group.requests.size(), "request")));
  }
  if (state.Sleeps(model)) {
    absl::StrAppend(&text, "; sleeps until somebody asks for it");
  } else if (state.Wanted(model) == 0 && demand.waiting > 0) {
    absl::StrAppend(&text, "; is woken");
  } else if (demand.coming > 0) {
    absl::StrAppend(&text, "; ", demand.coming, " on the way");
  } else if (model.pool.quiet_since != kNever) {
    absl::StrAppend(&text, "; one fewer would have done for ", core::Words(state.now - model.pool.quiet_since), ", of ",
                    core::Words(QuietFor(options, state.Wanted(model))));
  } else if (state.now < model.pool.held_until) {
    absl::StrAppend(&text, "; gave one up and does not grow for ", core::Words(model.pool.held_until - state.now));
  } else if (demand.waiting > 0 && demand.use.groups == model.spec.replicas_max) {
    absl::StrAppend(&text, "; more are not allowed");
  } else if (demand.waiting > 0 && demand.longest_wait < options.pool_up_after) {
    absl::StrAppend(&text, "; another is wanted when one has waited for ", core::Words(options.pool_up_after));
  }
  return text;
}

}  // namespace tandem::core
