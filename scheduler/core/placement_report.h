// Why a replica was placed where it was, or not at all: what fell out and for which reason, with names and numbers.
//
// "Never" and "later" are different answers. Never: no device that this installation knows could hold it, even if all
// were free and healthy; the numbers say what is missing. Later: something has to happen first, and it says what.
#ifndef TANDEM_SCHEDULER_CORE_PLACEMENT_REPORT_H_
#define TANDEM_SCHEDULER_CORE_PLACEMENT_REPORT_H_

#include <string>
#include <vector>

#include "scheduler/core/types.h"

namespace tandem::core {

enum class Verdict {
  kNotTried,
  kPlaced,
  kLater,     // devices are busy, lost, or short of free memory
  kDraining,  // later, and what stands in the way is a cordon or a drain: an operator's word, not time, lifts it
  kNever,
};

// Why one device fell out. In the order in which they are tested: the first that applies counts.
enum class Obstacle { kTooSmall, kLost, kSuspect, kDraining, kCordoned, kBusy, kMemoryTaken };
inline constexpr int kObstacles = 7;

struct Loser {
  DeviceId device;
  Obstacle obstacle = Obstacle::kLost;
  std::string text;  // "nodes/a/devices/1: 3.2 GiB free of the 5.0 GiB needed"
};

struct PlacementReport {
  Verdict verdict = Verdict::kNotTried;
  Instant at;
  std::string sentence;  // the verdict in one sentence, with numbers
  int tensor_parallel = 0;
  Bytes static_bytes, kv_min, kv_target;  // per rank
  std::vector<DeviceId> chosen;
  int considered = 0;
  std::vector<int> counts = std::vector<int>(kObstacles);  // by Obstacle
  std::vector<Loser> losers;                               // the first kMostLosers by device
  std::vector<std::string> degrees;                        // what became of each TP degree that was tried
};
inline constexpr size_t kMostLosers = 16;  // a rack has thousands; the counts are complete

// "lost", "cordoned", ...
const char* Describe(Obstacle obstacle);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PLACEMENT_REPORT_H_
