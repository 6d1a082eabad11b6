// What a door speaks: plain text, or TLS with the files that its settings name.
//
// The files are read again every `refresh`, and connections that are made from then on see what is in them; those that
// are open stay. A certificate and its key are taken together or not at all: while only one of them is the new one,
// handshakes fail, so both are best renamed into place in one go.
#ifndef TANDEM_SCHEDULER_SECURITY_SERVER_CREDENTIALS_H_
#define TANDEM_SCHEDULER_SECURITY_SERVER_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/time/time.h"
#include "base/security/settings.h"

namespace tandem::scheduler {

// REQUIRES: the settings are checked (config/security_rules.h), the files too.
std::shared_ptr<grpc::ServerCredentials> CredentialsOf(const security::DoorSettings& door, absl::Duration refresh);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_SERVER_CREDENTIALS_H_
