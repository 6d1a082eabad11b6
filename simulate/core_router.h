// The scheduler's core as the router: the policy `default`. It gets the events that the service would give it, the
// heartbeats of all devices among them, and its assignments are sent.
#ifndef TANDEM_SIMULATE_CORE_ROUTER_H_
#define TANDEM_SIMULATE_CORE_ROUTER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "simulate/fleet.h"
#include "simulate/router.h"
#include "simulate/sim_group.h"

namespace tandem::simulate {

class CoreRouter : public Router {
 public:
  // `groups`: of the fleet's groups, in its order. Both outlive it.
  CoreRouter(Fleet* fleet, const std::vector<std::unique_ptr<SimGroup>>* groups);

  Prefixes prefixes() const override { return Prefixes::kLandmarks; }
  void Arrive(int64_t now, const Arrival& arrival, Decisions& out) override;
  void Hear(int64_t now, uint32_t group, const worker::RequestUpdate& update, Decisions& out) override;
  void CacheChanged(int64_t now, uint32_t group, const worker::BlockAllocator::Changes& changes,
                    Decisions& out) override;
  int64_t next_wake() const override;
  void Wake(int64_t now, Decisions& out) override;

 private:
  void Beat(int64_t now, Decisions& out);
  void Step(int64_t now, const core::Event& event, Decisions& out);

  Fleet& fleet_;
  const std::vector<std::unique_ptr<SimGroup>>& groups_;
  const int64_t begin_us_;                        // of the core's clock
  std::map<core::GroupId, uint32_t> group_of_;    // place in `groups`
  absl::flat_hash_set<uint32_t> computing_;       // requests that have started, and no token came since
  std::vector<std::vector<uint32_t>> groups_on_;  // by DeviceId
  core::Event arrival_, beat_;                    // changed in place
  size_t beating_ = 0;                            // whose turn it is
  int64_t next_beat_ = 0;
};

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_CORE_ROUTER_H_
