// Whether the addresses of a configuration can be served here, and who has those that can not.
#ifndef TANDEM_CLIENT_CTL_PORTS_H_
#define TANDEM_CLIENT_CTL_PORTS_H_

#include <string>

#include "absl/status/status.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {

// INVALID_ARGUMENT names the first key whose address another program has, or this machine has not. `http`: the gateway
// is served too. Port 0 is free.
absl::Status CheckPortsFree(const config::ServerConfig& server, bool http);

// "nginx, process 812" for who listens on the port; empty where that cannot be known: the process is another user's.
std::string WhoListens(int port);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_PORTS_H_
