#include "scheduler/core/assignment.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/migration.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/slowness.h"
#include "scheduler/core/waiting_room.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

// Of one tenant's requests so many are tried, so that a tenant of large ones leaves a look to others.
constexpr size_t kMostOfTenant = 32;
// Prompt tokens that a request must have more of in a cache to go before one that came first.
constexpr Tokens kWorthOvertaking{512};
// Of the least loaded groups with room so many are compared by their work.
constexpr int kMostLookedAt = 4;

// What a group has room for at most that stands at `share` in the order, or behind. An upper bound: shares are rounded
// down, and groups may be smaller than the largest.
Tokens MostRoomFrom(const Model& model, int64_t share) {
  return {model.most_limit.value * std::max<int64_t>(0, 1000000 - share) / 1000000 + 1};
}

// `pinned`: of its prompt, what requests that run there have too, and what therefore takes no room of its own.
bool HasRoom(const Group& group, const Request& request, Tokens need, Tokens pinned) {
  return request.prompt + request.output < group.kv.capacity &&
         group.kv.Load() + BookingFor(group, need) - pinned <= group.kv.limit;
}

// What the group would have to do, in weighed millionths of its KV: what is booked, and what is to be computed, the
// request's `fresh` tokens among it, which counts more: it holds up every prompt behind it, while what runs only slows
// the steps of the others.
int64_t WorkOf(const ClusterState& state, const Group& group, Tokens fresh) {
  const CoreOptions& options = state.options;
  const int64_t tokens =
      group.kv.Load().value + group.kv.pending.value * options.pending_worth + fresh.value * options.cached_worth;
  return WeighedShare(group.weight, tokens * 1000000 / std::max<int64_t>(1, group.kv.limit.value));
}

struct Chosen {
  const Group* group = nullptr;
  Tokens held;  // of the prompt, at most all but its last token, which is always computed
  // A full group with less work than any that has room: the request is to wait for it, until then. `group` is null.
  const Group* awaited = nullptr;
  Instant until = kNever;
  bool overdue = false;  // such a group is there, and the time to wait for it is over
};

// How long to wait for a group that holds so much more of the prompt: some times as long as computing that would take,
// for who computes it elsewhere holds up the prompts behind it, and what is let go of for it is computed anew as well.
Instant WaitsUntil(const ClusterState& state, const Model& model, const Request& request, Tokens more) {
  if (request.overtaken >= state.options.most_overtaken) return state.now;
  const int64_t us = std::min<int64_t>(model.token_ns, int64_t{1} << 30) * std::max<int64_t>(0, more.value) / 1000;
  return request.waits_since + std::min(Duration{us * state.options.cache_wait_factor}, state.options.cache_wait_most);
}

// The group with the least work: of the least loaded ones, and of those that hold the beginning of the prompt.
Chosen ChooseGroup(const ClusterState& state, const Model& model, const Request& request, Tokens need) {
  Chosen best, full;
  int64_t least = 0, least_of_full = 0;
  const auto consider = [&](const Group& group, Tokens held, Chosen& chosen, int64_t& chosen_work) {
    const int64_t work = WorkOf(state, group, request.prompt + request.output - held);
    if (chosen.group != nullptr && work >= chosen_work) return;
    chosen = {&group, held};
    chosen_work = work;
  };
  const Group* unsuited = nullptr;
  int looked_at = 0;
  for (const auto& [share, id] : model.by_share) {
    // An empty group may still stretch itself; and a slow one has more room than its weighed share says.
    if (share > 0 && !model.any_slow && need > MostRoomFrom(model, share)) break;
    const Group& group = *state.FindLive(id);
    if (!HasRoom(group, request, need, {})) continue;
    if (!Suits(request, group)) {
      if (unsuited == nullptr) unsuited = &group;
      continue;
    }
    consider(group, {}, best, least);
    // The next ones are loaded no less, so only what is not begun here can speak for them.
    if (group.kv.pending.value == 0 || ++looked_at == kMostLookedAt) break;
  }
  if (best.group == nullptr) best.group = unsuited;
  if (request.prefix.empty()) return best;
  const bool suits = best.group == nullptr || best.group != unsuited;
  if (!suits) least = WorkOf(state, *unsuited, request.prompt + request.output);
  for (const PrefixIndex::Match& match : model.prefixes.Find(request.prefix)) {
    const Group& group = *state.FindLive(match.group);
    if (!group.indexed || Suits(request, group) != suits) continue;
    const Tokens held = std::min(match.tokens, request.prompt - Tokens{1});
    if (HasRoom(group, request, need, match.pinned)) {
      consider(group, held, best, least);
    } else if (request.prompt + request.output < group.kv.capacity &&
               BookingFor(group, need) - match.pinned <= group.kv.limit) {
      consider(group, held, full, least_of_full);
    }
  }
  if (best.group == nullptr || full.group == nullptr || least_of_full >= least) return best;
  const Instant until = WaitsUntil(state, model, request, full.held - best.held);
  if (until <= state.now) {
    best.overdue = true;
    return best;
  }
  return {.held = full.held, .awaited = full.group, .until = until};
}

// It waits no longer for the full group that it waited for.
void CountHome(Counters& counters, Request& request, const Chosen& chosen) {
  const GroupId home = std::exchange(request.home, {});
  if (home.value == 0) return;
  ++(chosen.group->id == home ? counters.homes_reached
     : chosen.overdue         ? counters.homes_given_up
                              : counters.homes_left);
}

void Assign(ClusterState& state, Request& request, const Chosen& chosen, Tokens need, Actions& out) {
  Group& group = *state.Find(chosen.group->id);
  CountHome(state.counters, request, chosen);
  LeaveQueue(state, request);
  const Tokens charge = std::max(Tokens{}, need - request.charged);  // what was computed before is not paid again
  state.At(request.model).queue.Charge(request.priority, request.tenant, charge);
  request.charged += charge;
  request.state = RequestState::kAssigned;
  request.attempt = {state.leader_epoch, request.attempt.counter + 1};
  request.aborting = false;
  request.waits_for.clear();
  request.fresh = request.prompt + request.output - chosen.held;
  Book(state, group, request, BookingFor(group, need));
  ++state.running_requests;
  Note(state, request, MomentKind::kAssigned, request.booked.value);
  if (chosen.held.value > 0) Note(state, request, MomentKind::kCached, chosen.held.value);
  out.push_back(AssignRequest{request.id, request.attempt, group.id, group.epoch, group.Rank0(), request.max_tokens,
                              request.deadline});
}

// The prompt is longer than any ready group's whole cache: the model's files promised more than the devices gave.
bool TooLongForEvery(const ClusterState& state, const Model& model, const Request& request) {
  bool any_ready = false;
  for (GroupId id : model.groups) {
    const Group& group = *state.Find(id);
    if (!group.Serves()) continue;
    if (group.state != GroupState::kReady) return false;
    any_ready = true;
    if (request.prompt + request.output < group.kv.capacity) return false;
  }
  return any_ready;
}

struct Choice {
  Request* request = nullptr;
  Chosen chosen;  // no group: none will ever take it
  Tokens need;
};

// Whether the next of a tenant's requests may go before this one, which can go now: the room that came free may be
// where much of the other one's prompt is cached, and elsewhere all of it would be computed.
bool MayYield(const ClusterState& state, const Model& model, const Choice& first) {
  const Request& request = *first.request;
  return !model.prefixes.empty() && request.overtaken < state.options.most_overtaken &&
         first.chosen.held.value * 2 < request.prompt.value;
}

// One that was tried and stays, for a full group perhaps.
struct Passed {
  Request* request;
  const Group* awaited;
};

// The next request that is done with waiting, if there is one. `release`: when the first of those that wait for a full
// group does so no more.
Choice Next(ClusterState& state, Model& model, Instant& release) {
  Choice choice;
  const Request* first = nullptr;  // that can go
  std::vector<Passed> passed;      // those before `choice`, and then those behind it
  size_t overtaken = 0;            // those before
  release = kNever;
  model.queue.Walk(kMostOfTenant, [&](Serial serial) {
    Request& request = state.At(serial);
    if (first != nullptr && request.tenant != first->tenant) return false;
    const Tokens need = EstimateNeed(state, request);
    const Chosen chosen = ChooseGroup(state, model, request, need);
    release = std::min(release, chosen.until);
    if (chosen.awaited != nullptr) request.home = chosen.awaited->id;
    const bool waits = chosen.group == nullptr && chosen.awaited == nullptr;
    if (first == nullptr && waits && TooLongForEvery(state, model, request)) {
      choice = {&request, chosen, need};
      return false;
    }
    if (chosen.group != nullptr && (first == nullptr || chosen.held > choice.chosen.held + kWorthOvertaking)) {
      if (first == nullptr) first = &request;
      choice = {&request, chosen, need};
      overtaken = passed.size();
      if (!MayYield(state, model, choice)) return false;
    }
    // Room that is full to the last place is full for everybody.
    if (model.by_share.empty() || request.overtaken >= state.options.most_overtaken) return false;
    passed.push_back({&request, chosen.awaited});
    return static_cast<int>(passed.size()) < state.options.look_ahead;
  });
  for (size_t i = 0; choice.chosen.group != nullptr && i < overtaken; ++i) {
    // Who waits for one group is not passed by who goes to another.
    const bool elsewhere = passed[i].awaited != nullptr && passed[i].awaited != choice.chosen.group;
    if (!elsewhere) ++passed[i].request->overtaken;
  }
  return choice;
}

}  // namespace

void AssignWaiting(ClusterState& state, Actions& out) {
  while (!state.helped.empty()) {
    Model& model = state.At(*state.helped.begin());
    state.helped.erase(state.helped.begin());
    Instant release = kNever;
    while (!model.queue.empty()) {
      const Choice choice = Next(state, model, release);
      if (choice.request == nullptr) break;
      if (choice.chosen.group != nullptr) {
        Assign(state, *choice.request, choice.chosen, choice.need, out);
      } else {
        Fail(state, *choice.request, Reason::kContextLengthExceeded,
             absl::StrCat("the prompt has ", choice.request->prompt.value,
                          " tokens, more than the whole KV cache of any group of ", Name(model)),
             out);
      }
    }
    if (model.queue.empty()) release = kNever;
    state.SetTimer(model.release_at, release, TimerKind::kRelease, model.id.value);
  }
}

void OnReleaseTimer(ClusterState& state, Model& model) {
  model.release_at = kNever;
  state.helped.insert(model.id);
}

std::string WhyWaiting(const ClusterState& state, const Request& request) {
  const Model& model = state.At(request.model);
  if (state.ReadyReplicas(model) == 0) {
    for (GroupId id : model.groups) {
      const Group& group = *state.Find(id);
      if (!group.Serves()) continue;
      return absl::StrCat(Name(model), " is ", group.state == GroupState::kForming ? "forming" : "loading", " on ",
                          Name(id), " (", List(state, DevicesOf(group)), ")");
    }
    if (!model.waits_for.empty()) return model.waits_for;
    return absl::StrCat(Name(model), state.Wanted(model) == 0 ? " sleeps, and is woken" : " has no group yet");
  }
  const Tokens need = EstimateNeed(state, request);
  if (const Chosen chosen = ChooseGroup(state, model, request, need); chosen.awaited != nullptr) {
    return absl::StrCat("waits at most ", Words(chosen.until - state.now), " for room on ", Name(chosen.awaited->id),
                        ", which holds ", chosen.held.value, " of the ", request.prompt.value,
                        " tokens of its prompt; then any group takes it");
  }
  if (const int position = state.QueuePosition(request); position > 1) {
    return absl::StrCat(Count(position - 1, "request"), " of ", Name(model), " before it");
  }
  if (model.by_share.empty()) {
    return absl::StrCat("every group of ", Name(model), " runs as many requests as it may, or is out of reach");
  }
  Tokens most;
  for (const auto& [share, id] : model.by_share) {
    const KvAccount& kv = state.Find(id)->kv;
    most = std::max(most, kv.limit - kv.Load());
  }
  return absl::StrCat("needs ", need.value, " tokens of KV; the roomiest of ",
                      Count(static_cast<int64_t>(model.by_share.size()), "admitting group"), " has ", most.value);
}

}  // namespace tandem::core
