#include "config/security_rules.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/security/pem_files.h"
#include "base/security/secret_file.h"
#include "base/security/token_file.h"
#include "config/endpoint.h"

namespace tandem::config {
namespace {

using security::DoorSettings;

struct NamedDoor {
  const char* name;
  DoorSettings SecurityConfig::*door;
  std::string ServerConfig::*address;
};
constexpr NamedDoor kDoors[] = {{"clients", &SecurityConfig::clients, &ServerConfig::clients},
                                {"workers", &SecurityConfig::workers, &ServerConfig::workers},
                                {"admin", &SecurityConfig::admin, &ServerConfig::admin}};

void Inherit(const DoorSettings& all, DoorSettings& door) {
  if (door.certificate.empty() && door.key.empty()) {  // one without the other is a mistake, which stays to be seen
    door.certificate = all.certificate;
    door.key = all.key;
  }
  if (door.client_ca.empty()) door.client_ca = all.client_ca;
  if (door.client_certificates.empty()) door.client_certificates = all.client_certificates;
  if (door.client_certificates.empty()) door.client_certificates = door.client_ca.empty() ? "off" : "required";
}

absl::Status Bad(absl::string_view key, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("security.", key, ": ", why));
}

bool AsksForCertificates(const DoorSettings& door) { return door.client_certificates != "off"; }

absl::Status CheckTls(const char* name, const DoorSettings& door) {
  if (door.certificate.empty() != door.key.empty()) {
    return Bad(name, "a certificate and its key belong together; only one of them is given");
  }
  const bool asks = AsksForCertificates(door);
  if (asks && !door.encrypted()) {
    return Bad(name, "clients' certificates need TLS: set certificate and key of the door, too");
  }
  if (asks && door.client_ca.empty()) {
    return Bad(name, absl::StrCat("client_certificates is ", door.client_certificates,
                                  ", but no client_ca says who signs them"));
  }
  return absl::OkStatus();
}

absl::Status CheckDoor(const NamedDoor& named, const SecurityConfig& security) {
  const DoorSettings& door = security.*named.door;
  if (absl::Status status = CheckTls(named.name, door); !status.ok()) return status;
  const bool asks = AsksForCertificates(door);
  if (security.roles() && security.tokens.empty() && !asks) {
    return Bad(named.name,
               "roles are given by security.identities alone, and this door asks for no certificate: nobody could "
               "call; set client_ca, or security.tokens");
  }
  return absl::OkStatus();
}

}  // namespace

void InheritDoors(SecurityConfig& security) {
  for (const NamedDoor& named : kDoors) Inherit(security.all, security.*named.door);
  Inherit({}, security.http);
}

absl::Status CheckSecurity(const SecurityConfig& security) {
  for (const NamedDoor& named : kDoors) {
    if (const absl::Status status = CheckDoor(named, security); !status.ok()) return status;
  }
  if (absl::Status status = CheckTls("http", security.http); !status.ok()) return status;
  const security::DialSettings& dial = security.dial;
  if (dial.certificate.empty() != dial.key.empty()) {
    return Bad("dial", "a certificate and its key belong together; only one of them is given");
  }
  if (!dial.certificate.empty() && dial.ca.empty()) {
    return Bad("dial.certificate", "is given, but no security.dial.ca to know the server by");
  }
  return absl::OkStatus();
}

std::vector<std::string> SecurityWarnings(const ServerConfig& server, const SecurityConfig& security) {
  std::vector<std::string> warnings;
  for (const NamedDoor& named : kDoors) {
    const DoorSettings& door = security.*named.door;
    const std::string& address = server.*named.address;
    const auto endpoint = ParseEndpoint(address);
    if (!endpoint.ok() || endpoint->IsLoopback()) continue;
    if (!door.encrypted() && security.roles()) {
      warnings.push_back(
          absl::StrCat("server.", named.name, ": tokens that are sent to ", address, " can be read on the way"));
    }
    if (!security.roles() && door.client_certificates != "required") {
      warnings.push_back(absl::StrCat("server.", named.name, ": whoever reaches ", address,
                                      " may do all that is behind it; set security.client_ca or security.tokens"));
    }
  }
  const auto http = ParseEndpoint(server.http);
  if (http.ok() && !http->IsLoopback() && !security.http.encrypted() && !server.api_keys_file.empty()) {
    warnings.push_back(KeysInTheOpen(server.http));
  }
  return warnings;
}

std::string KeysInTheOpen(const std::string& address) {
  return absl::StrCat("server.http: API keys that are sent to ", address,
                      " can be read on the way; set security.http.certificate and security.http.key");
}

absl::Status CheckServed(const ClusterConfig& config) {
  for (const NamedDoor& named : kDoors) {
    const std::string& address = config.server.*named.address;
    const auto endpoint = ParseEndpoint(address);
    if (!endpoint.ok()) return endpoint.status();
    if (endpoint->IsLoopback() || (config.security.*named.door).encrypted()) continue;
    if (config.server.plaintext_beyond_loopback) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("server.", named.name, ": other machines can reach ", address,
                     ", and nothing on it is encrypted; use 127.0.0.1, set security.certificate and security.key for ",
                     "TLS, or set server.plaintext_beyond_loopback: true"));
  }
  return absl::OkStatus();
}

absl::Status CheckDoorFiles(const SecurityConfig& security, absl::Time now, std::vector<std::string>* warnings) {
  std::set<std::pair<std::string, std::string>> seen;  // doors share their files, mostly
  for (const NamedDoor& named : kDoors) {
    const DoorSettings& door = security.*named.door;
    if (!seen.emplace(door.certificate, door.client_ca).second) continue;
    if (const absl::Status status = security::CheckDoorFiles(door, now, warnings); !status.ok()) return status;
  }
  if (security.tokens.empty()) return absl::OkStatus();
  const auto text = security::ReadBounded("token file", security.tokens);
  if (!text.ok()) return text.status();
  std::string loose = security::LoosePermissions("token file", security.tokens);
  if (!loose.empty()) warnings->push_back(std::move(loose));
  return security::ParseTokenFile(*text, security.tokens).status();
}

}  // namespace tandem::config
