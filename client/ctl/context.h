// What every verb of tandemctl shares: the global options, where the scheduler is, and how a failure ends the program.
#ifndef TANDEM_CLIENT_CTL_CONTEXT_H_
#define TANDEM_CLIENT_CTL_CONTEXT_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/security/dialer.h"
#include "client/admin_client.h"
#include "client/client.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {

// Scripts rely on them.
enum ExitCode {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,  // the command line, a file or a request is wrong as it stands
  kTimedOut = 3,
  kNotFound = 4,
  kUnreachable = 5,
  kRefused = 6,
  kInterrupted = 130,
};

ExitCode ExitCodeOf(const absl::Status& status);

struct Context {
  // Global options, empty where not given.
  std::string config_path;
  std::string server;
  std::string admin;
  std::vector<config::FlagValue> dial_flags;  // --ca and its like

  int exit_code = kOk;  // set by the verb that ran

  // --server or --admin, else TANDEM_SERVER or TANDEM_ADMIN, else the configuration file, else the defaults.
  absl::StatusOr<std::string> ServerAddress() const;
  absl::StatusOr<std::string> AdminAddress() const;

  // What the flags, the environment and the configuration say of TLS, certificate and token.
  absl::StatusOr<security::Dialer> MakeDialer() const;

  absl::StatusOr<std::unique_ptr<Client>> ConnectClient() const;
  absl::StatusOr<std::unique_ptr<AdminClient>> ConnectAdmin() const;
};

// Prints "tandemctl: message (REASON)" on one line to stderr; OK prints nothing. Returns the exit code.
int Report(const absl::Status& status);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_CONTEXT_H_
