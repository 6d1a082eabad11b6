#include "scheduler/core/migration.h"

#include "absl/strings/str_cat.h"
#include "scheduler/core/check.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/waiting_room.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

constexpr int kMostFaults = 1;  // the engine that fails twice on one request fails on it always

}  // namespace

void Migrate(ClusterState& state, Request& request, const std::string& why, Actions& out) {
  CORE_CHECK(!request.Waits() && !request.HoldsBooking() && !request.told && !request.stopped, "request ",
             request.serial);
  const CoreOptions& options = state.options;
  if (request.groups_lost >= options.most_groups_lost) {
    return Fail(state, request, Reason::kEngineFault,
                absl::StrCat(Count(request.groups_lost, "group"),
                             " were lost while they ran it, so it is not tried on another; the last: ", why),
                out);
  }
  if (request.faults > kMostFaults) {
    return Fail(state, request, Reason::kEngineFault, absl::StrCat(why, ", as another attempt before"), out);
  }
  if (request.refusals >= options.most_attempts) {
    return Fail(state, request, Reason::kEngineFault,
                absl::StrCat("no engine of ", Name(state.At(request.model)), " began it in ", request.refusals,
                             " attempts; the last: ", why),
                out);
  }
  if (request.began && request.migrations >= options.most_migrations) {
    return Fail(state, request, Reason::kWorkerLost,
                absl::StrCat("it was moved ", request.migrations, " times, the most that may be; the last: ", why),
                out);
  }
  --state.running_requests;
  request.moved_why = why;
  if (request.began) {
    ++state.counters.migrated;
    Note(state, request, MomentKind::kMigrating, ++request.migrations);
    request.state = RequestState::kMigrating;
  } else {
    ++state.counters.requeued;
    Note(state, request, MomentKind::kRequeued);
    request.state = RequestState::kQueued;
  }
  request.group = {};
  request.aborting = false;
  JoinQueue(state, request);
}

bool Suits(const Request& request, const Group& group) {
  if (request.faulted_on == group.id) return false;
  return request.numerics_id.empty() || request.numerics_id == group.numerics_id;
}

}  // namespace tandem::core
