// Migration: a request whose group was lost, aborted or drained goes on with another one, from its prompt and the
// tokens that the router has. The client notices a pause at most: indices make delivery exactly once, and the sampling
// counter makes each draw the one it would have been.
//
// It goes back to the queue of its model and stands there by its old serial number, so before all that came later, and
// keeps its deadline. One that an engine began waits as MIGRATING, one that none did as QUEUED. The waiting room never
// turns it away: it was let in.
//
// What could go on for ever has an end by name:
//   migrations   most_migrations moves of a request that began, then WORKER_LOST
//   lost groups  most_groups_lost that died while they ran it, then ENGINE_FAULT: what kills its engine must not walk
//                through the fleet. Others that ran beside it lose as many groups at most.
//   faults       an engine that gives up this one request: tried once more, elsewhere if there is an elsewhere
//   refusals     most_attempts that no engine began, then ENGINE_FAULT
//
// The core knows how many tokens a request has when it starts or ends, not in between; the router knows all of them and
// sends them along with each assignment.
#ifndef TANDEM_SCHEDULER_CORE_MIGRATION_H_
#define TANDEM_SCHEDULER_CORE_MIGRATION_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// Back to the queue, or failed by name where a limit is reached. REQUIRES: assigned or running, no booking, not told,
// its client has not its end.
void Migrate(ClusterState& state, Request& request, const std::string& why, Actions& out);

// Whether the group is one that the request should rather go to than to others that fit: it computes with the same
// numerics, so that greedy text stays what it would have been, and did not fail with this very request.
bool Suits(const Request& request, const Group& group);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_MIGRATION_H_
