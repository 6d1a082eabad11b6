#include "scheduler/core/request_life.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/plant.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/check.h"
#include "scheduler/core/found_requests.h"
#include "scheduler/core/migration.h"
#include "scheduler/core/prefetch.h"
#include "scheduler/core/waiting_room.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

// Trying again later may help, and the caller should not come back at once.
bool WillPass(Reason reason) {
  switch (reason) {
    case Reason::kTenantLimit:
    case Reason::kQueueFull:
    case Reason::kDraining:
    case Reason::kNoCapacity:
    case Reason::kModelLoading:
    case Reason::kDrainAborted:
    case Reason::kWorkerLost:
      return true;
    default:
      return false;
  }
}

// From here on nothing more is said to the client.
void CloseBooks(ClusterState& state, Request& request, RequestState end) {
  CORE_CHECK(!request.told, "request ", request.serial, " is told its end twice");
  if (request.Waits()) {
    LeaveQueue(state, request);
  } else {
    --state.running_requests;
  }
  if (request.charged.value > 0) {
    const Tokens used = request.began ? request.prompt + request.output : Tokens{};
    state.At(request.model).queue.Settle(request.priority, request.tenant, request.charged, used);
  }
  request.told = true;
  request.state = end;
  request.ended_at = state.now;
  request.waits_for.clear();
  state.SetTimer(request.deadline, kNever, TimerKind::kRequest, request.serial);
}

void Complete(ClusterState& state, Request& request, Actions& out) {
  CloseBooks(state, request, RequestState::kFinished);
  ++state.counters.finished;
  Note(state, request, MomentKind::kFinished, request.output.value);
  out.push_back(CompleteRequest{request.id, request.output});
}

// The request that a worker's or the router's message means, or null and counted.
Request* Current(ClusterState& state, RequestId id, Attempt attempt) {
  Request* request = state.Find(id);
  if (request != nullptr) Prefetch(state.Find(request->group), Group::kHotBytes);
  const bool current = request != nullptr && request->attempt == attempt;
  if (request != nullptr && request->Placed() && (current || kPlanted == Plant::kSkipEpochCheck)) return request;
  ++state.counters.stale_attempts;
  return nullptr;
}

// A count from another process, within what was asked for and what is known.
Tokens Believable(const Request& request, Tokens output) {
  return std::clamp(output, std::min(request.output, request.max_tokens), request.max_tokens);
}

// One that waits for another group, while the router heard its end from the group before: `attempt` is the router's
// current one until the next is assigned, so its word counts.
Request* Unfinished(ClusterState& state, RequestId id, Attempt attempt) {
  Request* request = state.Find(id);
  if (request == nullptr || !request->Waits() || request->attempt.counter == 0) return nullptr;
  return request->attempt == attempt ? request : nullptr;
}

// The router has given the client its end while the core waited for another group.
void CompleteWaiting(ClusterState& state, Request& request, Tokens output, Actions& out) {
  request.output = Believable(request, output);
  state.At(request.model).outputs.Add(output);
  Complete(state, request, out);
  state.Remember(request);
}

}  // namespace

void Note(const ClusterState& state, Request& request, MomentKind kind, int64_t number) {
  if (request.history.size() >= kMostMoments) request.history.erase(request.history.begin() + kMostMoments / 2);
  request.history.push_back({state.now, kind, request.group, number});
}

void Fail(ClusterState& state, Request& request, Reason reason, std::string message, Actions& out) {
  const bool cancelled = reason == Reason::kCancelled;
  CloseBooks(state, request, cancelled ? RequestState::kCancelled : RequestState::kFailed);
  ++(cancelled ? state.counters.cancelled : state.counters.failed);
  Note(state, request, cancelled ? MomentKind::kCancelled : MomentKind::kFailed);
  request.outcome = reason;
  request.outcome_text = message;
  FailRequest fail{request.id, reason, std::move(message), std::nullopt};
  if (WillPass(reason)) fail.retry_after = RetryAfter(state, request);
  out.push_back(std::move(fail));
  if (!request.Placed()) state.Remember(request);
}

void AbortCurrent(ClusterState& state, Request& request, const std::string& why, Actions& out) {
  if (request.aborting || !request.HoldsBooking()) return;
  const Group& group = *state.Find(request.group);
  request.aborting = true;
  Note(state, request, MomentKind::kAborting);
  out.push_back(AbortAttempt{request.id, request.attempt, group.id, group.epoch, group.Rank0(), why});
}

void LoseAttempt(ClusterState& state, Request& request, bool died, const std::string& why, Actions& out) {
  const bool ran = request.state == RequestState::kRunning;
  Unplace(state, request);
  if (request.told) return state.Remember(request);
  if (request.stopped) {  // the client has its end already
    Complete(state, request, out);
    return state.Remember(request);
  }
  if (died && ran) ++request.groups_lost;
  Migrate(state, request, why, out);
}

bool IsPatient(const Request& request, Reason refused) {
  return refused == Reason::kDraining && request.attempt.counter > 0;
}

void FailQueue(ClusterState& state, Model& model, Reason reason, const std::string& why, Actions& out) {
  std::vector<Serial> waiting;
  model.queue.ForEach([&](Serial serial, const WaitingLine::Size&) { waiting.push_back(serial); });
  std::sort(waiting.begin(), waiting.end());
  for (Serial serial : waiting) {
    Request& request = state.At(serial);
    if (!IsPatient(request, reason)) Fail(state, request, reason, why, out);
  }
}

void Handle(ClusterState& state, const RequestCancelled& event, Actions& out) {
  Request* request = state.Find(event.request);
  if (request == nullptr || request->told || request->stopped) return;  // it ended while the cancel was on its way
  static constexpr const char* kWhy[] = {"the client left", "cancelled by the client", "cancelled by an operator"};
  const std::string why = kWhy[static_cast<int>(event.cause)];
  Counters& counters = state.counters;
  ++(event.cause == CancelCause::kClientLeft    ? counters.aborted_client_left
     : event.cause == CancelCause::kClientAsked ? counters.aborted_client_asked
                                                : counters.aborted_admin);
  AbortCurrent(state, *request, why, out);
  Fail(state, *request, Reason::kCancelled, why, out);
}

void Handle(ClusterState& state, const RequestStarted& event, Actions&) {
  Request* request = Current(state, event.request, event.attempt);
  if (request == nullptr) return;
  if (request->started) return;  // said twice
  if (request->awaits_group) request->started = true;
  if (!request->awaits_group) MarkStarted(*state.Find(request->group), *request);
  if (request->told) return;
  request->state = RequestState::kRunning;
  request->output = Believable(*request, event.output);
  if (!request->began && !request->awaits_group) request->numerics_id = state.Find(request->group)->numerics_id;
  request->began = true;
  Note(state, *request, MomentKind::kStarted, event.cached.value);
}

void Handle(ClusterState& state, const RequestComputed& event, Actions&) {
  Request* request = Current(state, event.request, event.attempt);
  if (request == nullptr || !request->started || request->computed) return;
  if (request->awaits_group) request->computed = true;
  if (!request->awaits_group) MarkComputed(*state.Find(request->group), *request);
}

void Handle(ClusterState& state, const RequestPreempted& event, Actions&) {
  Request* request = Current(state, event.request, event.attempt);
  if (request == nullptr) return;
  if (request->awaits_group) request->started = request->computed = false;
  if (!request->awaits_group) MarkPreempted(*state.Find(request->group), *request);
  if (request->told) return;
  ++request->preemptions;
  Note(state, *request, MomentKind::kPreempted);
}

void Handle(ClusterState& state, const RequestEnded& event, Actions& out) {
  // It becomes one that is remembered, and the oldest of those is forgotten.
  if (!state.ended.empty()) Prefetch(state.ended.front().get(), sizeof(Request));
  const bool normal = event.how == EndedHow::kStopped || event.how == EndedHow::kLengthReached;
  if (Request* waiting = normal ? Unfinished(state, event.request, event.attempt) : nullptr) {
    return CompleteWaiting(state, *waiting, event.output, out);
  }
  Request* request = Current(state, event.request, event.attempt);
  if (request == nullptr) return;
  if (!request->stopped && !request->told) request->output = Believable(*request, event.output);
  const bool began = request->state != RequestState::kAssigned;
  const std::string group = Name(request->group);
  if (normal && !request->stopped) state.At(request->model).outputs.Add(event.output);
  if (kPlanted == Plant::kLeakPromise && request->told) return;
  Unplace(state, *request);
  if (request->told) return state.Remember(*request);
  if (normal || request->stopped) {
    Complete(state, *request, out);
    return state.Remember(*request);
  }
  const std::string said = event.message.empty() ? "" : absl::StrCat(": ", event.message);
  switch (event.how) {
    case EndedHow::kFault:
      ++request->faults;
      request->faulted_on = request->group;
      return Migrate(state, *request, absl::StrCat("the engine of ", group, " failed", said), out);
    case EndedHow::kAborted:  // by a drain, or because its group is going, or the worker let it go
      if (!began && !request->aborting) ++request->refusals;
      return Migrate(state, *request, absl::StrCat("aborted by ", group, said), out);
    default:  // refused before it ran
      ++request->refusals;
      return Migrate(state, *request, absl::StrCat(group, " refused it", said), out);
  }
}

void Handle(ClusterState& state, const RequestStopped& event, Actions& out) {
  if (Request* waiting = Unfinished(state, event.request, event.attempt)) {
    Note(state, *waiting, MomentKind::kStopped, event.output.value);
    return CompleteWaiting(state, *waiting, event.output, out);
  }
  Request* request = Current(state, event.request, event.attempt);
  if (request == nullptr || request->told || request->stopped) return;
  request->stopped = true;
  request->output = Believable(*request, event.output);
  state.At(request->model).outputs.Add(event.output);
  state.SetTimer(request->deadline, kNever, TimerKind::kRequest, request->serial);
  Note(state, *request, MomentKind::kStopped, event.output.value);
  AbortCurrent(state, *request, "a stop string was found", out);
}

void Handle(ClusterState& state, const RequestSpoiled& event, Actions& out) {
  Request* request = state.Find(event.request);
  if (request == nullptr || request->told || request->stopped) return;
  ++state.counters.spoiled;
  AbortCurrent(state, *request, "its tokens did not come whole", out);
  Fail(state, *request, Reason::kEngineFault, event.message, out);
}

void OnDeadlineOf(ClusterState& state, Serial serial, Actions& out) {
  Request& request = state.At(serial);
  const Duration age = state.now - request.arrived;
  const bool queued = request.Waits();
  const std::string why = absl::StrCat("deadline passed after ", Words(age), queued ? " in the queue: " : "",
                                       queued ? request.waits_for : "");
  AbortCurrent(state, request, "deadline", out);
  Fail(state, request, Reason::kDeadlineExceeded, why, out);
}

}  // namespace tandem::core
