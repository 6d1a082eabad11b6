// Pools: how many replicas of a model are wanted, between its least and its most, by what its clients ask for.
//
// A model whose replicas.max exceeds its replicas.min is looked at every pool_period while something may have to
// change: while requests wait, or while it wants more than its least. It grows by one when a request has waited for
// pool_up_after or the KV cache is nearly booked out with something waiting, and no replica of it is about to come. It
// shrinks by one when one replica fewer would have been less than half loaded, without a break, for pool_down_after:
// growing is cheap to regret, shrinking costs the load of a model, so the one is quick and the other slow.
//
// Who asks for a model that sleeps does not wait for the next look: the first request that waits has one made at once.
// It wants a replica, so the requests behind it change nothing any more.
//
// A replica that is not needed stops admitting, ends its requests and is dissolved when empty; none is aborted for it.
// Until it is gone it is taken back before another is formed.
//
// A model that lacks a replica and finds no devices gets those of another one: of a model of no higher priority that
// has more than its least, is not half loaded and could do with one fewer. Such a replica must have served for
// pool_hold, and who gave one up does not grow for as long, so that two models never take turns with the same devices.
//
// Models with replicas.min = replicas.max are never looked at, and without others no timer is armed.
#ifndef TANDEM_SCHEDULER_CORE_POOL_H_
#define TANDEM_SCHEDULER_CORE_POOL_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// Somebody waits for a model that sleeps: a look will want a replica of it.
bool WantsWaking(const ClusterState& state, const Model& model);
// Has the timer look soon if there is something to look at and it does not run.
void ArmPools(ClusterState& state);
// Whether that is so; for invariants.
bool PoolsMatter(const ClusterState& state);

// Looks at every pool: sets what is wanted, and has at most one replica move from one model to another.
void OnPoolTimer(ClusterState& state, Actions& out);
// The same now, if a model wants waking.
void WakeAsked(ClusterState& state, Actions& out);

// More replicas of a model with a fixed number than that are there, after a drain was undone: those that do not serve
// yet end, else the least booked retire. Others shrink by demand.
void RetireSurplus(ClusterState& state, Model& model, const std::string& why, Actions& out);
// Likewise after a restart, of what came back: the oldest retire, since what came later came to replace them.
void RetireOldest(ClusterState& state, Model& model, const std::string& why, Actions& out);
// Replicas that leave and are needed again after all serve again.
void TakeBackNeeded(ClusterState& state, Actions& out);
// Replicas that leave and have no request any more are dissolved.
void DissolveUnneeded(ClusterState& state, Actions& out);

// "wants 2 of 1 to 4 replicas: 12 waiting, the first for 3.1 s; KV 91 % booked", and what comes next; empty for a model
// with a fixed number.
std::string ExplainPool(const ClusterState& state, const Model& model);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_POOL_H_
