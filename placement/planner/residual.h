// The value of what stays free on a host: how many groups of each usual shape could still be formed there, at no less
// than four fifths of the bandwidth that the host can give to that shape. Without it the planner would take any of
// several equally fast sets, and break a quad for a pair.
#ifndef TANDEM_PLACEMENT_PLANNER_RESIDUAL_H_
#define TANDEM_PLACEMENT_PLANNER_RESIDUAL_H_

#include <cstdint>
#include <vector>

#include "placement/planner/host_scores.h"

namespace tandem::placement {

class ResidualValue {
 public:
  // `memory`: per device, bytes that shards may take there. Shapes are 1, 2, 4 and 8 ranks by each distinct size of
  // memory, each group worth its ranks. Keeps a reference to `scores`.
  ResidualValue(HostScores& scores, const std::vector<int64_t>& memory);

  int64_t Of(DeviceSet free);

 private:
  struct Shape {
    int ranks = 1;
    DeviceSet enough = 0;                      // devices with the memory
    bool uniform = false;                      // every set of the size is as good as the best
    std::vector<std::vector<DeviceSet>> good;  // sets of the size, by their lowest device
    std::vector<int8_t> packed;                // by set: most groups at once in it; -1: not computed
  };
  int Pack(Shape& shape, DeviceSet free);

  std::vector<Shape> shapes_;
};

// All sets of `ranks` devices out of `from`, in the order of their lowest devices.
std::vector<DeviceSet> SetsOf(DeviceSet from, int ranks);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_RESIDUAL_H_
