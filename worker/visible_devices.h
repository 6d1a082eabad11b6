// What CUDA_VISIBLE_DEVICES leaves of a machine's GPUs. CUDA itself obeys the variable; this says in words what it did,
// where a device that somebody asked for is not among those that CUDA shows.
#ifndef TANDEM_WORKER_VISIBLE_DEVICES_H_
#define TANDEM_WORKER_VISIBLE_DEVICES_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tandem::worker {

// One sentence about `visible`, the variable's value, or nothing where it is not set. `devices`: how many GPUs the
// machine has; -1: not known. CUDA reads it entry by entry, an index or the beginning of a uuid, and stops at the first
// that names no device.
std::string ExplainVisibility(const std::optional<std::string>& visible, int devices);

// The variables as this process has them: INVALID_ARGUMENT where they name a slice of a GPU (MIG), which no worker
// takes, or an order that CUDA does not know.
absl::Status CheckVisibility(const std::optional<std::string>& visible, const std::optional<std::string>& order);

std::optional<std::string> EnvironmentVariable(const char* name);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_VISIBLE_DEVICES_H_
