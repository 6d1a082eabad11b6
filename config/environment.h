// What the environment says about the configuration: our own variables (TANDEM_SERVER_CLIENTS for server.clients, and
// so on), and those that a vLLM installation already has. Ours win over theirs.
#ifndef TANDEM_CONFIG_ENVIRONMENT_H_
#define TANDEM_CONFIG_ENVIRONMENT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "config/cluster_config.h"

namespace tandem::config {

struct EnvironmentEntry {
  bool first_model = false;  // the key is one of models[0], which is made where there is none
  std::string key;
  std::string text;
  std::string variable;
};

struct EnvironmentContents {
  std::vector<EnvironmentEntry> entries;  // later ones win
  std::string token;                      // TANDEM_TOKEN; no key, so that nothing shows it
  std::vector<std::string> warnings;      // set, but without a meaning in this build
};

// "TANDEM_SERVER_CLIENTS" for "server.clients".
std::string VariableOf(const std::string& key);

// INVALID_ARGUMENT where a variable asks for what would be wrong to ignore.
absl::StatusOr<EnvironmentContents> ReadEnvironment(const Environment& environment);

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_ENVIRONMENT_H_
