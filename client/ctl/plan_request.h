// What `tandemctl plan` was asked, from text to the planner's terms.
#ifndef TANDEM_CLIENT_CTL_PLAN_REQUEST_H_
#define TANDEM_CLIENT_CTL_PLAN_REQUEST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "placement/planner/demand.h"
#include "placement/topology/topology.h"

namespace tandem::client::ctl {

// As typed. Lists are separated by commas.
struct PlanFlags {
  std::vector<std::string> topology;  // files, one host or cluster each
  std::string gpu;
  std::string memory;   // bytes: one for all devices, or one for each
  std::string used;     // bytes that other processes use: one for all, or one for each
  std::string drained;  // devices: index, or hostN/index
  double utilization = 0.9;
  std::vector<std::string> models;  // "name=A,tp=2,replicas=2,bytes=20GiB"
};

struct PlanRequest {
  placement::Topology topology;
  placement::Demand demand;
};

// INVALID_ARGUMENT in one line: which flag or file, what stood there, what is wanted.
absl::StatusOr<PlanRequest> ReadPlanRequest(const PlanFlags& flags);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_PLAN_REQUEST_H_
