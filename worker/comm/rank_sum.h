// The one order in which the ranks of a group are added: ((rank 0 + rank 1) + rank 2) + .. for every element.
#ifndef TANDEM_WORKER_COMM_RANK_SUM_H_
#define TANDEM_WORKER_COMM_RANK_SUM_H_

#include <cstddef>

namespace tandem::worker {

// out[i] = parts[0][i] + .. + parts[ranks - 1][i], fp32, i < count. `out` may be one of the parts, and overlaps none of
// them otherwise. REQUIRES: 2 <= ranks.
void SumInRankOrder(const float* const* parts, int ranks, float* out, size_t count);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_RANK_SUM_H_
