// How many stand before each of those that wait. The core's thread copies the places of a queue, which is one look at
// each; whoever wants to know sorts them, away from it. One by one the core would walk the queue as often as it is
// long.
#ifndef TANDEM_SCHEDULER_QUEUE_POSITIONS_H_
#define TANDEM_SCHEDULER_QUEUE_POSITIONS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/request_stream.h"

namespace tandem::scheduler {

using Places = std::vector<core::WaitingLine::Place>;

Places PlacesOf(const core::ClusterState& state, core::ModelId model);

// How many are served before each.
absl::flat_hash_map<core::Serial, uint32_t> AheadOfEach(Places places);

// Of some streams that wait for an engine.
class StreamPositions {
 public:
  // On the core's thread.
  void Take(const core::ClusterState& state, const std::vector<std::shared_ptr<RequestStream>>& streams);
  // Anywhere, once.
  void Tell();

 private:
  struct Waiter {
    std::shared_ptr<RequestStream> stream;
    core::ModelId model;
    core::Serial serial = 0;
  };
  std::vector<Waiter> waiters_;
  std::map<core::ModelId, Places> places_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_QUEUE_POSITIONS_H_
