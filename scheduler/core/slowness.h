// Groups that are slower than their peers get less work, in proportion; they are not fenced, for late tokens are still
// tokens. A rank that throttles, or swaps, or shares its device with a stranger makes its whole group slow.
//
// Peers are the ready groups of one model with the same degree on devices of one kind. What is compared must not blame
// a group for the work it was given: a step over a larger batch or a long prompt takes longer, and a step over few
// tokens costs more for each of them. So a group counts as slow only by the lesser of two ratios to the median of its
// peers: the time of a step, and the time of a step by its tokens. More work per step raises the first and lowers the
// second; less work the other way round; only a slower device raises both.
//
// Once a second the groups of a model that stepped since the last look are compared, on the heartbeat that finds the
// look due, so that a heartbeat costs the same with ten groups and with ten thousand. Three looks in a row decide, in
// both directions, and the way back needs a smaller ratio. A model with one group has nothing to compare.
#ifndef TANDEM_SCHEDULER_CORE_SLOWNESS_H_
#define TANDEM_SCHEDULER_CORE_SLOWNESS_H_

#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// Rank 0's word on its steps; compares the groups of the model when that is due.
void TakeStepTime(ClusterState& state, Group& group, const GroupLoad& load, Actions& out);

// In permille of its peers' time: as its steps show, or as the health of its slowest device has it, which is known
// before a step is.
int64_t SlownessOf(const ClusterState& state, const Group& group);
// The place of a group with this booked share of its KV, in millionths, among the others: as if its share were larger
// by how much slower it is. Even an empty slow group comes behind others with some room, and gets a little.
int64_t WeighedShare(int64_t slowness, int64_t share);

// "10.0 times"
std::string TimesSlower(const Group& group);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_SLOWNESS_H_
