#include "scheduler/core/assignment.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/migration.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/waiting_room.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

// Of one tenant's requests so many are tried, so that a tenant of large ones leaves a look to others.
constexpr size_t kMostOfTenant = 8;

// What a group has room for at most that stands at `share` in the order, or behind. An upper bound: shares are rounded
// down, and groups may be smaller than the largest.
Tokens MostRoomFrom(const Model& model, int64_t share) {
  return {model.most_limit.value * std::max<int64_t>(0, 1000000 - share) / 1000000 + 1};
}

bool HasRoom(const Group& group, const Request& request, Tokens need) {
  return request.prompt + request.output < group.kv.capacity &&
         group.kv.Load() + BookingFor(group, need) <= group.kv.limit;
}

Group* LeastLoaded(ClusterState& state, const Model& model, const Request& request, Tokens need) {
  Group* second_best = nullptr;
  for (const auto& [share, id] : model.by_share) {
    // An empty group may still stretch itself; and a slow one has more room than its weighed share says.
    if (share > 0 && !model.any_slow && need > MostRoomFrom(model, share)) break;
    Group& group = *state.Find(id);
    if (!HasRoom(group, request, need)) continue;
    if (Suits(request, group)) return &group;
    if (second_best == nullptr) second_best = &group;
  }
  return second_best;
}

// The least loaded group, or one that holds so much of the prompt that it may be fuller. Both are counted in tokens: a
// group's lead in load is that of its share, so that groups of unequal size and speed compare as they do without.
struct Chosen {
  Group* group = nullptr;
  Tokens held;  // of the prompt, where that decided
};
Chosen ChooseGroup(ClusterState& state, const Model& model, const Request& request, Tokens need) {
  Group* const least = LeastLoaded(state, model, request, need);
  if (least == nullptr || request.prefix.empty()) return {least, {}};
  const bool suits = Suits(request, *least);
  Chosen best{least, {}};
  int64_t most = 0;
  for (const PrefixIndex::Match& match : model.prefixes.Find(request.prefix)) {
    Group& group = *state.Find(match.group);
    if (!group.indexed || !HasRoom(group, request, need) || Suits(request, group) != suits) continue;
    const int64_t lead = (group.share_key - least->share_key) * group.kv.limit.value / 1000000;
    const int64_t worth = std::min(match.tokens, request.prompt).value * state.options.cached_worth - lead;
    if (worth < most || (worth == most && best.group->share_key < group.share_key)) continue;
    best = {&group, match.tokens};
    most = worth;
  }
  if (best.group == least) best.held = {};
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

// The next request that is done with waiting, if there is one.
Choice Next(ClusterState& state, Model& model) {
  Choice choice;
  std::vector<Request*> passed;
  model.queue.Walk(kMostOfTenant, [&](Serial serial) {
    Request& request = state.At(serial);
    const Tokens need = EstimateNeed(state, request);
    const Chosen chosen = ChooseGroup(state, model, request, need);
    if (chosen.group != nullptr || TooLongForEvery(state, model, request)) {
      choice = {&request, chosen, need};
      return false;
    }
    // Room that is full to the last place is full for everybody.
    if (model.by_share.empty() || request.overtaken >= state.options.most_overtaken) return false;
    passed.push_back(&request);
    return static_cast<int>(passed.size()) < state.options.look_ahead;
  });
  if (choice.chosen.group != nullptr) {
    for (Request* request : passed) ++request->overtaken;
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
