// What the keys of `security` mean together: which door has what, what cannot be, and what is legal but seldom meant.
#ifndef TANDEM_CONFIG_SECURITY_RULES_H_
#define TANDEM_CONFIG_SECURITY_RULES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "config/cluster_config.h"

namespace tandem::config {

// Gives each door what `all` has and the door itself does not, and says in words what is left open.
void InheritDoors(SecurityConfig& security);

// After InheritDoors. The message begins with the key; no file is looked at, since a machine that only looks up an
// address need not have them.
absl::Status CheckSecurity(const SecurityConfig& security);

// One sentence each on what lets in more than its author may think.
std::vector<std::string> SecurityWarnings(const ServerConfig& server, const SecurityConfig& security);

// Of a gateway that has keys and whose address other machines reach in plain text. Keys of a file are looked at by
// SecurityWarnings; what else a gateway has, it alone knows.
std::string KeysInTheOpen(const std::string& address);

// For whoever opens the doors: none is plain text that other machines can reach, unless that is asked for.
absl::Status CheckServed(const ClusterConfig& config);

// For the scheduler before it opens its doors, and `config validate`: the files of gRPC's doors and of the tokens.
absl::Status CheckDoorFiles(const SecurityConfig& security, absl::Time now, std::vector<std::string>* warnings);

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_SECURITY_RULES_H_
