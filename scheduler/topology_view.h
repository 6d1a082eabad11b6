// The links of the cluster as GetTopology shows them: what the workers say of each link (its label), what probes found,
// and where the two contradict each other.
#ifndef TANDEM_SCHEDULER_TOPOLOGY_VIEW_H_
#define TANDEM_SCHEDULER_TOPOLOGY_VIEW_H_

#include <vector>

#include "scheduler/rows.h"
#include "scheduler/worker_registry.h"
#include "tandem/v1/admin.pb.h"

namespace tandem::scheduler {

// `now` is on the core's clock. Labels come from the workers that are attached; figures outlive them.
void FillTopology(const std::vector<DeviceRow>& devices, const std::vector<NodeRow>& nodes,
                  const WorkerRegistry& registry, core::Instant now, v1::GetTopologyResponse* response);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_TOPOLOGY_VIEW_H_
