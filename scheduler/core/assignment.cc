#include "scheduler/core/assignment.h"

#include <algorithm>
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
constexpr size_t kMostOfTenant = 8;
// Prompt tokens that a request must have more of in a cache to go before one that came first.
constexpr Tokens kWorthOvertaking{512};
// Of the least loaded groups with room so many are compared by their work.
constexpr int kMostLookedAt = 4;

// What a group has room for at most that stands at `share` in the order, or behind. An upper bound: shares are rounded
// down, and groups may be smaller than the largest.
Tokens MostRoomFrom(const Model& model, int64_t share) {
  return {model.most_limit.value * std::max<int64_t>(0, 1000000 - share) / 1000000 + 1};
}

bool HasRoom(const Group& group, const Request& request, Tokens need) {
  return request.prompt + request.output < group.kv.capacity &&
         group.kv.Load() + BookingFor(group, need) <= group.kv.limit;
}

// What the group would have to do, in weighed millionths of its KV: what is booked, and what is to be computed, the
// request's `fresh` tokens among it, which counts more: it holds up every prompt behind it, while what runs only slows
// the steps of the others.
int64_t WorkOf(const ClusterState& state, const Group& group, Tokens fresh) {
  const int64_t tokens = group.kv.Load().value + (group.kv.pending + fresh).value * state.options.cached_worth;
  return WeighedShare(group.weight, tokens * 1000000 / std::max<int64_t>(1, group.kv.limit.value));
}

struct Chosen {
  Group* group = nullptr;
  Tokens held;  // of the prompt, at most all but its last token, which is always computed
};

// The group with the least work: of the least loaded ones, and of those that hold the beginning of the prompt.
Chosen ChooseGroup(ClusterState& state, const Model& model, const Request& request, Tokens need) {
  Chosen best;
  int64_t least = 0;
  const auto consider = [&](Group& group, Tokens held) {
    const int64_t work = WorkOf(state, group, request.prompt + request.output - held);
    if (best.group != nullptr && work >= least) return;
    best = {&group, held};
    least = work;
  };
  Group* unsuited = nullptr;
  int looked_at = 0;
  for (const auto& [share, id] : model.by_share) {
    // An empty group may still stretch itself; and a slow one has more room than its weighed share says.
    if (share > 0 && !model.any_slow && need > MostRoomFrom(model, share)) break;
    Group& group = *state.Find(id);
    if (!HasRoom(group, request, need)) continue;
    if (!Suits(request, group)) {
      if (unsuited == nullptr) unsuited = &group;
      continue;
    }
    consider(group, {});
    // The next ones are loaded no less, so only what is not begun here can speak for them.
    if (group.kv.pending.value == 0 || ++looked_at == kMostLookedAt) break;
  }
  if (best.group == nullptr) best.group = unsuited;
  if (best.group == nullptr || request.prefix.empty()) return best;
  const bool suits = best.group != unsuited;
  if (!suits) least = WorkOf(state, *unsuited, request.prompt + request.output);
  for (const PrefixIndex::Match& match : model.prefixes.Find(request.prefix)) {
    Group& group = *state.Find(match.group);
    if (!group.indexed || !HasRoom(group, request, need) || Suits(request, group) != suits) continue;
    consider(group, std::min(match.tokens, request.prompt - Tokens{1}));
  }
  return best;
}

void Assign(ClusterState& state, Request& request, const Chosen& chosen, Tokens need, Actions& out) {
  Group& group = *chosen.group;
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

// The next request that is done with waiting, if there is one.
Choice Next(ClusterState& state, Model& model) {
  Choice choice;
  const Request* first = nullptr;  // that can go
  std::vector<Request*> passed;    // those before `choice`, and then those behind it
  size_t overtaken = 0;            // those before
  model.queue.Walk(kMostOfTenant, [&](Serial serial) {
    Request& request = state.At(serial);
    if (first != nullptr && request.tenant != first->tenant) return false;
    const Tokens need = EstimateNeed(state, request);
    const Chosen chosen = ChooseGroup(state, model, request, need);
    if (first == nullptr && chosen.group == nullptr && TooLongForEvery(state, model, request)) {
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
    passed.push_back(&request);
    return static_cast<int>(passed.size()) < state.options.look_ahead;
  });
  if (choice.chosen.group != nullptr) {
    for (size_t i = 0; i < overtaken; ++i) ++passed[i]->overtaken;
  }
  return choice;
}

}  // namespace

void AssignWaiting(ClusterState& state, Actions& out) {
  while (!state.helped.empty()) {
    Model& model = state.At(*state.helped.begin());
    state.helped.erase(state.helped.begin());
    while (!model.queue.empty()) {
      const Choice choice = Next(state, model);
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
  }
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
    return model.waits_for.empty() ? absl::StrCat(Name(model), " has no group yet") : model.waits_for;
  }
  if (const int position = state.QueuePosition(request); position > 1) {
    return absl::StrCat(Count(position - 1, "request"), " of ", Name(model), " before it");
  }
  const Tokens need = EstimateNeed(state, request);
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
