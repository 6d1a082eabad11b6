// The launcher behind `tandemctl up` and `tandemctl serve`.
#ifndef TANDEM_CLIENT_CTL_UP_H_
#define TANDEM_CLIENT_CTL_UP_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {

// Runs all programs of one machine until a signal ends it. `config_path` may be empty.
absl::Status RunUp(const std::string& config_path, const std::vector<config::FlagValue>& flags);

// Sets the variables of an env file (NAME=VALUE lines, # comments, quotes as in compose files) that are not set yet.
// INVALID_ARGUMENT names file and line.
absl::Status ReadEnvFile(const std::string& path);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_UP_H_
