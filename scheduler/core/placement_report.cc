#include "scheduler/core/placement_report.h"

namespace tandem::core {

const char* Describe(Obstacle obstacle) {
  static constexpr const char* kWords[kObstacles] = {"too small", "lost", "suspect",     "draining",
                                                     "cordoned",  "busy", "memory taken"};
  return kWords[static_cast<int>(obstacle)];
}

}  // namespace tandem::core
