#include "scheduler/core/found_requests.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/check.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/waiting_room.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

// The engine that says that it has the request shall stop it.
void Dismiss(const RequestFound& event, const std::string& why, Actions& out) {
  out.push_back(AbortAttempt{event.request, event.attempt, event.group, event.epoch, event.rank0, why});
}

// What an engine runs already is booked whether there is room or not; the next heartbeat corrects the account.
void BookFound(ClusterState& state, Group& group, Request& request, Actions& out) {
  const bool started = std::exchange(request.started, false), computed = std::exchange(request.computed, false);
  const Tokens room = group.kv.limit - group.kv.Booked();
  const Tokens wanted = BookingFor(group, EstimateNeed(state, request));
  if (room < wanted) request.prefix.clear();  // what is not booked in full shares nothing in the account
  Book(state, group, request, std::max(Tokens{group.block_tokens}, std::min(wanted, room)));
  if (started) MarkStarted(group, request);
  if (computed) MarkComputed(group, request);
  if (request.told || request.stopped) AbortCurrent(state, request, "it had its end before this group came back", out);
}

void Place(ClusterState& state, Request& request, const RequestFound& event, Actions& out) {
  request.attempt = event.attempt;
  request.group = event.group;
  request.state = RequestState::kAssigned;
  request.started = request.computed = request.aborting = false;
  request.output = std::clamp(event.output, Tokens{}, request.max_tokens);
  request.known_output = request.output;
  request.numerics_id = event.numerics_id;
  request.began = request.output.value > 0;
  Note(state, request, MomentKind::kFound, request.output.value);
  Group* group = state.Find(event.group);
  if (group != nullptr && group->epoch == event.epoch && group->InService() && group->ready_at != kNever) {
    return BookFound(state, *group, request, out);
  }
  request.awaits_group = true;
  state.awaiting[event.group].insert(request.serial);
  if (state.settled) LoseAttempt(state, request, /*died=*/false, absl::StrCat(Name(event.group), " is gone"), out);
}

// A later attempt of a request that another engine was found with, or that waits because that one's group was lost.
void Supersede(ClusterState& state, Request& request, const RequestFound& event, Actions& out) {
  if (request.told || request.stopped) return Dismiss(event, "its client has its end", out);
  if (request.Placed()) {
    AbortCurrent(state, request, "a later attempt of it was found", out);
    Unplace(state, request);
  } else {
    LeaveQueue(state, request);
    ++state.running_requests;
  }
  Place(state, request, event, out);
}

}  // namespace

void Handle(ClusterState& state, const RequestFound& event, Actions& out) {
  if (Request* known = state.Find(event.request)) {
    if (event.attempt == known->attempt) return;  // said again
    if (event.attempt > known->attempt) return Supersede(state, *known, event, out);
    ++state.counters.stale_attempts;
    return Dismiss(event, "a later attempt of it is known", out);
  }
  if (std::as_const(state).Find(event.request) != nullptr) {
    ++state.counters.stale_attempts;
    return Dismiss(event, "it has ended", out);
  }
  const Model* model = state.FindModel(event.model);
  if (model == nullptr || event.max_tokens.value < 1) {
    const std::string why = absl::StrCat("there is no model named '", event.model, "' any more");
    out.push_back(FailRequest{event.request, Reason::kModelNotFound, why, std::nullopt});
    return Dismiss(event, why, out);
  }
  Request& request = state.AddRequest(event.request);
  request.model = model->id;
  request.prompt = event.prompt;
  request.max_tokens = event.max_tokens;
  request.priority = event.priority;
  request.tenant = event.tenant;
  request.prefix = event.prefix;
  request.bytes = event.bytes;
  request.caller_id = event.caller_id;
  request.trace_id = event.trace_id;
  request.arrived = state.now + Duration{-std::max<int64_t>(0, event.age.us)};
  if (event.deadline.has_value()) {
    state.SetTimer(request.deadline, state.now + *event.deadline, TimerKind::kRequest, request.serial);
  }
  ++state.running_requests;
  Place(state, request, event, out);
}

void SeatFound(ClusterState& state, Group& group, Actions& out) {
  const auto waiting = state.awaiting.extract(group.id);
  if (waiting.empty()) return;
  for (Serial serial : waiting.mapped()) {
    Request& request = state.At(serial);
    request.awaits_group = false;
    BookFound(state, group, request, out);
  }
}

void LoseFound(ClusterState& state, Actions& out) {
  while (!state.awaiting.empty()) {
    Request& request = state.At(*state.awaiting.begin()->second.begin());
    LoseAttempt(state, request, /*died=*/false,
                absl::StrCat(Name(request.group), " did not come back whole after the scheduler's restart"), out);
  }
}

void Unplace(ClusterState& state, Request& request) {
  if (!request.awaits_group) return Release(state, request);
  const auto waiting = state.awaiting.find(request.group);
  CORE_CHECK(waiting != state.awaiting.end() && waiting->second.erase(request.serial) == 1, "request ", request.serial,
             " awaits a group that nobody knows of");
  if (waiting->second.empty()) state.awaiting.erase(waiting);
  request.awaits_group = false;
  request.started = request.computed = false;
}

}  // namespace tandem::core
