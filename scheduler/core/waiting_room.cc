#include "scheduler/core/waiting_room.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/assignment.h"
#include "scheduler/core/check.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

Tokens ExpectedOutput(const ClusterState& state, const Model& model) {
  return model.outputs.P90(state.options.default_output);
}

// Has never been with an engine: nothing is lost when it is turned away.
bool IsNewcomer(const Request& request) { return request.attempt.counter == 0; }

Waiting Room(const CoreOptions& options) {
  return {options.waiting_room_requests, options.waiting_room_tokens, options.waiting_room_bytes};
}

// `percent` of it, but room for one request at least.
Waiting Part(const Waiting& room, int percent) {
  const auto part = [&](int64_t whole) { return whole / 100 * percent + whole % 100 * percent / 100; };
  return {
      static_cast<int>(std::max<int64_t>(1, part(room.requests))), {part(room.tokens.value)}, {part(room.bytes.value)}};
}
Waiting RoomOfClass(const CoreOptions& options) { return Part(Room(options), options.class_room_percent); }

bool Within(const Waiting& waiting, const Waiting& limit) {
  return waiting.requests <= limit.requests && waiting.tokens <= limit.tokens && waiting.bytes <= limit.bytes;
}

bool OverShare(const ClusterState& state, const Waiting& waiting) {
  return !Within(waiting, Part(RoomOfClass(state.options), state.options.tenant_room_percent));
}

Waiting SizeInRoom(const Request& request) { return {1, request.prompt, request.bytes}; }

// What waits, as far as it bounds requests of one priority.
struct Filling {
  Waiting all, own_class;
};
Filling FillingFor(const ClusterState& state, int priority) { return {state.waiting, state.classes.at(priority)}; }
bool Within(const CoreOptions& options, const Filling& filling) {
  return Within(filling.all, Room(options)) && Within(filling.own_class, RoomOfClass(options));
}

// The newest newcomer among those of `priority` in the model's line, of `tenant` if one is named.
const Request* Newest(const ClusterState& state, const Model& model, int priority, const std::string* tenant,
                      const std::vector<Serial>& taken) {
  const auto rank = model.queue.classes().find(-priority);
  if (rank == model.queue.classes().end()) return nullptr;
  const Request* newest = nullptr;
  for (const auto& [name, account] : rank->second.accounts) {
    if (tenant != nullptr && name != *tenant) continue;
    for (auto it = account.waiting.rbegin(); it != account.waiting.rend(); ++it) {
      if (newest != nullptr && it->first < newest->serial) break;
      const Request& request = *state.requests.at(it->first);
      if (!IsNewcomer(request) || std::find(taken.begin(), taken.end(), it->first) != taken.end()) continue;
      newest = &request;
      break;
    }
  }
  return newest;
}

// The newest of the lowest priority up to `most`, in all models.
const Request* NewestOfLowest(const ClusterState& state, int most, const std::string* tenant,
                              const std::vector<Serial>& taken) {
  const Request* chosen = nullptr;
  for (const Model& model : state.models) {
    const auto& classes = model.queue.classes();
    for (auto rank = classes.rbegin(); rank != classes.rend() && -rank->first <= most; ++rank) {
      if (chosen != nullptr && -rank->first > chosen->priority) break;
      if (rank->second.waiting == 0) continue;
      const Request* newest = Newest(state, model, -rank->first, tenant, taken);
      if (newest == nullptr) continue;
      const bool better = chosen == nullptr || newest->priority < chosen->priority || newest->serial > chosen->serial;
      if (better) chosen = newest;
      break;
    }
  }
  return chosen;
}

// Another tenant with the most of the room, if that is more than its share.
const std::string* Greediest(const ClusterState& state, const std::string& but) {
  const std::string* greediest = nullptr;
  Waiting most;
  for (const auto& [name, waiting] : state.tenants) {
    if (name == but || !OverShare(state, waiting) || waiting <= most) continue;
    greediest = &name;
    most = waiting;
  }
  return greediest;
}

// Those whose places make room for `request`; empty where that cannot be.
std::vector<Serial> Displaced(const ClusterState& state, const Request& request, Reason* reason) {
  Filling now = FillingFor(state, request.priority);
  const bool modest = !OverShare(state, state.tenants.at(request.tenant));
  std::vector<Serial> taken;
  const auto take = [&](const Request& other) {
    taken.push_back(other.serial);
    now.all -= SizeInRoom(other);
    if (other.priority == request.priority) now.own_class -= SizeInRoom(other);
  };
  *reason = Reason::kQueueFull;
  while (!Within(now.all, Room(state.options))) {
    const Request* other = NewestOfLowest(state, request.priority - 1, nullptr, taken);
    if (other == nullptr) break;
    take(*other);
  }
  if (Within(state.options, now)) return taken;
  const std::string* greediest = modest ? Greediest(state, request.tenant) : nullptr;
  if (greediest == nullptr) return {};
  if (taken.empty()) *reason = Reason::kTenantLimit;
  while (!Within(state.options, now)) {
    const Request* other = NewestOfLowest(state, request.priority, greediest, taken);
    if (other == nullptr) return {};
    take(*other);
  }
  return taken;
}

// Which bound `waiting` breaks, in figures; `whose` is empty or names what is bounded.
std::string WhatIsFull(const Waiting& waiting, const Waiting& limit, const std::string& whose) {
  if (waiting.requests > limit.requests) {
    return absl::StrCat(limit.requests, " requests", whose, " wait already, the most that may");
  }
  if (waiting.tokens > limit.tokens) {
    return absl::StrCat("waiting prompts", whose, " would have ", waiting.tokens.value, " tokens of the ",
                        limit.tokens.value, " that may wait");
  }
  return absl::StrCat("waiting requests", whose, " would take ", waiting.bytes.value, " bytes of the ",
                      limit.bytes.value, " that may be taken");
}

std::string RoomIsFull(const ClusterState& state, int priority) {
  const Filling filling = FillingFor(state, priority);
  const Waiting limit = Room(state.options);
  if (!Within(filling.all, limit)) return WhatIsFull(filling.all, limit, "");
  return WhatIsFull(filling.own_class, RoomOfClass(state.options), absl::StrCat(" of priority ", priority));
}

// False: the newcomer was refused.
bool FindPlace(ClusterState& state, Request& request, Actions& out) {
  if (Within(state.options, FillingFor(state, request.priority))) return true;
  Reason reason = Reason::kNone;
  const std::vector<Serial> displaced = Displaced(state, request, &reason);
  for (Serial serial : displaced) {
    Request& other = state.At(serial);
    const bool share = reason == Reason::kTenantLimit;
    Fail(state, other, reason,
         share ? absl::StrCat("its tenant has more than its ", state.options.tenant_room_percent,
                              " % of the full waiting room, and others wait")
               : absl::StrCat("its place in the full waiting room went to a request of higher priority"),
         out);
  }
  if (!displaced.empty()) return true;
  const Waiting& own = state.tenants.at(request.tenant);
  const std::string full = RoomIsFull(state, request.priority);
  if (state.tenants.size() > 1 && OverShare(state, own)) {
    Fail(state, request, Reason::kTenantLimit,
         absl::StrCat("its tenant has ", Count(own.requests - 1, "request"),
                      " in the waiting room, and may have no more than ", state.options.tenant_room_percent,
                      " % of it while others wait and it is full: ", full),
         out);
  } else {
    Fail(state, request, Reason::kQueueFull, full, out);
  }
  return false;
}

// The least time from a turn to the first token, as the model's groups work now: one step, as long as the shortest of
// any group, since of the prompt all but the last block may be cached. 0 where none has stepped yet.
Duration LeastFirstToken(const Model& model) { return {model.least_step_us}; }

// False: the newcomer was refused, because its turn cannot come before its deadline.
bool CanMeetDeadline(ClusterState& state, Request& request, Actions& out) {
  if (request.deadline == kNever) return true;
  const Model& model = state.At(request.model);
  const WaitingLine::Ahead ahead =
      model.queue.AheadOf(request.priority, request.tenant, request.serial, ExpectedOutput(state, model));
  const std::optional<Duration> wait = model.pace.LeastTimeFor(state.now, ahead.tokens, model.in_flight);
  if (!wait.has_value()) return true;
  const Duration token = LeastFirstToken(model);
  if (state.now + *wait + token <= request.deadline) return true;
  Fail(state, request, Reason::kDeadlineUnreachable,
       absl::StrCat("its turn comes in ", Words(*wait), " at the earliest, ",
                    token.us > 0 ? absl::StrCat("its first token ", Words(token), " later, ") : "",
                    "its deadline is in ", Words(request.deadline - state.now), ": ", Count(ahead.requests, "request"),
                    " with ", ahead.tokens.value, " tokens of KV are before it"),
       out);
  return false;
}

// Spreads what comes in equally over 64 bits.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

WaitingLine::Size SizeOf(const Request& request) {
  return {request.prompt + request.output, request.max_tokens - request.output};
}

void EnterRoom(ClusterState& state, const Request& request) {
  const Waiting size = SizeInRoom(request);
  state.waiting += size;
  state.classes[request.priority] += size;
  state.tenants[request.tenant] += size;
}

void JoinQueue(ClusterState& state, Request& request) {
  Model& model = state.At(request.model);
  model.queue.Join(request.priority, request.tenant, request.serial, SizeOf(request));
  model.pace.Watch(state.now, true);
  EnterRoom(state, request);
  request.waits_since = state.now;
  state.queued_now.push_back(request.serial);
  state.helped.insert(request.model);
}

void LeaveQueue(ClusterState& state, Request& request) {
  Model& model = state.At(request.model);
  if (std::exchange(request.home, {}).value != 0) ++state.counters.homes_left;
  const bool left = model.queue.Leave(request.priority, request.tenant, request.serial);
  CORE_CHECK(left, "request ", request.serial, " is not in its queue");
  if (model.queue.empty()) model.pace.Watch(state.now, false);
  const Waiting size = SizeInRoom(request);
  state.waiting -= size;
  const auto leave = [&](auto& table, const auto& key) {
    const auto it = table.find(key);
    it->second -= size;
    if (it->second.requests == 0) table.erase(it);
  };
  leave(state.classes, request.priority);
  leave(state.tenants, request.tenant);
  state.helped.insert(request.model);
}

void SettleWaiting(ClusterState& state, Actions& out) {
  const std::vector<Serial> joined = std::exchange(state.queued_now, {});
  for (Serial serial : joined) {
    const auto it = state.requests.find(serial);
    if (it == state.requests.end() || !it->second->Waits()) continue;
    Request& request = *it->second;
    const Model& model = state.At(request.model);
    if (model.refused != Reason::kNone && !state.IsServed(model) && !IsPatient(request, model.refused)) {
      Fail(state, request, model.refused, model.refused_why, out);
      continue;
    }
    if (IsNewcomer(request) && !(CanMeetDeadline(state, request, out) && FindPlace(state, request, out))) continue;
    request.waits_for = WhyWaiting(state, request);
    state.model_to_wake |= WantsWaking(state, model);
    Note(state, request, MomentKind::kQueued);
    out.push_back(NoteQueued{request.id, request.waits_for});
  }
}

Duration RetryAfter(const ClusterState& state, const Request& request) {
  const CoreOptions& options = state.options;
  const Model& model = state.At(request.model);
  const std::optional<Duration> empty =
      model.pace.LeastTimeFor(state.now, model.queue.AllTokens(ExpectedOutput(state, model)), model.in_flight);
  const Duration whole =
      std::clamp(empty.value_or(options.retry_hint), options.retry_hint_least, options.retry_hint_most);
  const int64_t part = static_cast<int64_t>(Mix(request.id.hi ^ Mix(request.id.lo)) >> 54);  // of 1024
  return {std::max(options.retry_hint_least.us, whole.us / 2 + whole.us / 2 * part / 1024)};
}

}  // namespace tandem::core
