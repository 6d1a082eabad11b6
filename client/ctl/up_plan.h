// What `tandemctl up` runs: the programs and their command lines, from one configuration. No service is started here;
// a worker is asked which GPUs there are, where the configuration says `all`.
#ifndef TANDEM_CLIENT_CTL_UP_PLAN_H_
#define TANDEM_CLIENT_CTL_UP_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/ctl/supervisor.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {

struct UpPlan {
  std::vector<std::string> devices;  // "cpu:0", "cuda:1", "sim:H100:2"
  std::vector<ChildSpec> children;   // the scheduler first
  bool gateway = false;              // HTTP is served
  std::vector<std::string> notes;    // what was chosen for the user, one sentence each
};

// `bin` holds tandem-scheduler and tandem-worker, and tandem-gateway where HTTP is to be served; `cores` are this
// machine's. INVALID_ARGUMENT for addresses that workers could not dial, and for two devices of one index: a node
// counts all its devices through. Simulated devices without an index get the lowest free ones.
absl::StatusOr<UpPlan> PlanUp(const config::ClusterConfig& config, const std::string& config_path,
                              const std::string& bin, const std::string& node, int cores);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_UP_PLAN_H_
