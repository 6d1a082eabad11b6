// The groups of a simulated cluster, formed by the scheduler's own core from the devices of a topology: it is told of
// workers, models and loads as the service tells it, and every answer comes at once.
//
// A Fleet is the core with all its groups READY, no request in it. One thread.
#ifndef TANDEM_SIMULATE_FLEET_H_
#define TANDEM_SIMULATE_FLEET_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "placement/planner/bus_bandwidth.h"
#include "placement/topology/topology.h"
#include "scheduler/core/core.h"
#include "simulate/served_model.h"

namespace tandem::simulate {

struct FleetDevice {
  core::DeviceSpec spec;
  core::Incarnation incarnation;
  int host = 0, place = 0;  // in the topology
  core::Bytes free;         // after what runs there
  core::Bytes process;      // held by the worker
};

struct FleetGroup {
  core::GroupId id;
  core::GroupEpoch epoch;
  std::vector<core::DeviceId> members;  // in rank order
  int32_t kv_blocks = 0;
  const placement::Chip* chip = nullptr;
  placement::Ring ring;  // of several ranks
};

class Fleet {
 public:
  // As many replicas as the cluster has room for, or `replicas` where that is more than 0. FAILED_PRECONDITION, with
  // the core's own sentence, where not one fits. `utilization`: of each device's memory.
  static absl::StatusOr<std::unique_ptr<Fleet>> Form(const placement::Topology& topology, const ServedModel& model,
                                                     double utilization, int replicas);

  core::Core& core() { return core_; }
  core::Instant now() const { return now_; }
  const std::vector<FleetGroup>& groups() const { return groups_; }
  const std::vector<FleetDevice>& devices() const { return devices_; }  // by DeviceId
  const core::ModelSpec& model() const { return model_; }

 private:
  Fleet(const placement::Topology& topology, const ServedModel& model, double utilization, int replicas);
  void FormAll();
  void Tell(const core::Event& event);
  void Obey(const core::Action& action);
  void Load(const core::LoadModel& action);

  const placement::Topology& topology_;  // while it forms
  core::ModelSpec model_;
  core::Core core_;
  core::Instant now_{1};
  std::vector<FleetDevice> devices_;
  std::vector<FleetGroup> groups_;
  std::deque<core::Event> answers_;  // of workers, not yet told
};

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_FLEET_H_
