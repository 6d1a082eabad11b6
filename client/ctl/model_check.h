// Whether models can be served by the devices of this machine, from what the scheduler says that they need.
#ifndef TANDEM_CLIENT_CTL_MODEL_CHECK_H_
#define TANDEM_CLIENT_CTL_MODEL_CHECK_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/ctl/machine.h"
#include "client/ctl/machine_check.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {

// One check for each configured model, each for itself. `report` is what `tandem-scheduler --check-models` wrote; lines
// of it that are no JSON are its log. The memory of GPUs is not known here, and taken for enough.
std::vector<Check> CheckModels(const config::ClusterConfig& config, const Machine& machine, absl::string_view report);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_MODEL_CHECK_H_
