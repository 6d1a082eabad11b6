// Whether a machine is fit to serve a configuration: what `tandemctl validate` prints. Every line can come out
// otherwise.
#ifndef TANDEM_CLIENT_CTL_MACHINE_CHECK_H_
#define TANDEM_CLIENT_CTL_MACHINE_CHECK_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/ctl/machine.h"
#include "config/cluster_config.h"

namespace tandem::client::ctl {

enum class Verdict { kPass, kWarn, kFail };
struct Check {
  Verdict verdict;
  std::string what, why;  // "shm", and one sentence
};

// Takes the addresses of the configuration for a moment. `models` is what the scheduler says of them (model_check.h).
std::vector<Check> CheckMachine(const config::LoadedConfig& loaded, const Machine& machine,
                                const config::Environment& environment, absl::string_view models);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_MACHINE_CHECK_H_
