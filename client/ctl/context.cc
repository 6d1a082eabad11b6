#include "client/ctl/context.h"

#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/error.h"
#include "config/endpoint.h"

namespace tandem::client::ctl {
namespace {

absl::StatusOr<std::string> Lookup(const std::string& flag, const char* flag_name, const char* variable,
                                   const std::string& config_path, std::string config::ServerConfig::*key) {
  const char* from_environment = std::getenv(variable);
  const bool in_environment = from_environment != nullptr && *from_environment != '\0';
  const std::string given = !flag.empty() ? flag : in_environment ? from_environment : "";
  if (!given.empty()) {
    const auto endpoint = config::ParseEndpoint(given);
    if (endpoint.ok()) return endpoint->ToString();
    return absl::InvalidArgumentError(
        absl::StrCat(flag.empty() ? variable : flag_name, ": ", endpoint.status().message()));
  }
  const auto loaded = config::LoadClusterConfig(config_path);
  if (!loaded.ok()) return loaded.status();
  const auto endpoint = config::ParseEndpoint(loaded->config.server.*key);
  if (!endpoint.ok()) return endpoint.status();
  return endpoint->DialAddress();
}

}  // namespace

ExitCode ExitCodeOf(const absl::Status& status) {
  if (Unreachable(status)) return kUnreachable;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kInvalidArgument:
      return kUsage;
    case absl::StatusCode::kDeadlineExceeded:
      return kTimedOut;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kAborted:  // the etag is no longer the resource's
      return kRefused;
    default:
      return kFailure;
  }
}

int Report(const absl::Status& status) {
  if (status.ok()) return kOk;
  const std::string reason = ErrorReason(status);
  const std::string message = absl::StrReplaceAll(status.message(), {{"\n", " "}});
  std::cerr << "tandemctl: " << (message.empty() ? absl::StatusCodeToString(status.code()) : message)
            << (reason.empty() ? "" : " (" + reason + ")") << std::endl;
  return ExitCodeOf(status);
}

absl::StatusOr<std::string> Context::ServerAddress() const {
  return Lookup(server, "--server", "TANDEM_SERVER", config_path, &config::ServerConfig::clients);
}

absl::StatusOr<std::string> Context::AdminAddress() const {
  return Lookup(admin, "--admin", "TANDEM_ADMIN", config_path, &config::ServerConfig::admin);
}

absl::StatusOr<security::Dialer> Context::MakeDialer() const {
  const auto loaded = config::LoadClusterConfig(config_path, dial_flags);
  if (!loaded.ok()) return loaded.status();
  return security::Dialer::Open(loaded->config.security.dial);
}

absl::StatusOr<std::unique_ptr<Client>> Context::ConnectClient() const {
  const auto address = ServerAddress();
  if (!address.ok()) return address.status();
  auto dialer = MakeDialer();
  if (!dialer.ok()) return dialer.status();
  return Client::Connect(*address, {.dialer = *std::move(dialer)});
}

absl::StatusOr<std::unique_ptr<AdminClient>> Context::ConnectAdmin() const {
  const auto address = AdminAddress();
  if (!address.ok()) return address.status();
  auto dialer = MakeDialer();
  if (!dialer.ok()) return dialer.status();
  return AdminClient::Connect(*address, {.dialer = *std::move(dialer)});
}

}  // namespace tandem::client::ctl
