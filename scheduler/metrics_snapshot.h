// The numbers of the core that Prometheus is shown, copied out of it in turns.
#ifndef TANDEM_SCHEDULER_METRICS_SNAPSHOT_H_
#define TANDEM_SCHEDULER_METRICS_SNAPSHOT_H_

#include <optional>
#include <vector>

#include "scheduler/core_reader.h"
#include "scheduler/rows.h"

namespace tandem::scheduler {

struct MetricsSnapshot {
  ClusterRow cluster;
  std::vector<ModelRow> models;      // undeployed ones too, while groups of them live
  std::vector<GroupNumbers> groups;  // that live, in order of their ids
  std::vector<DeviceRow> devices;
  std::vector<WaiterRow> waiters;
};

// Nothing: the core is behind.
std::optional<MetricsSnapshot> TakeMetrics(CoreReader& reader);
// Without devices and waiters, which vLLM's names do not tell of.
std::optional<MetricsSnapshot> TakeVllmMetrics(CoreReader& reader);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_METRICS_SNAPSHOT_H_
