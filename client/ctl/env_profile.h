// The variables by which a compose stack is told what machine it is on: chosen for a mode and a profile, and written
// into env files in place. Pure.
#ifndef TANDEM_CLIENT_CTL_ENV_PROFILE_H_
#define TANDEM_CLIENT_CTL_ENV_PROFILE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/ctl/machine.h"

namespace tandem::client::ctl {

using Variables = std::vector<std::pair<std::string, std::string>>;

// `mode`: auto (detect), multi (dual), single (one), cpu (none). INVALID_ARGUMENT for another word or profile;
// FAILED_PRECONDITION where the machine has fewer GPUs than the mode wants.
absl::StatusOr<Variables> VariablesFor(const std::string& mode, const std::string& profile, const Machine& machine);

// The text with each variable set: in its own line where it has one, else at the end. Other lines stay as they are, and
// doing it twice changes nothing more.
std::string WithVariables(const std::string& text, const Variables& variables);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_ENV_PROFILE_H_
