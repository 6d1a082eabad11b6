// The table of what a device's health leads to, read from YAML (tables/device_health.yaml says what may stand in it).
// The shipped one is compiled in, so that a scheduler without files beside it has it too.
#ifndef TANDEM_CONFIG_DEVICE_HEALTH_H_
#define TANDEM_CONFIG_DEVICE_HEALTH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tandem::config {

struct HealthRow {
  std::string on;  // "XID 79", "XID *"
  std::string action;
  absl::Duration cool_off;  // zero: the scheduler's own
  int times = 2;
  std::string because;
};

inline constexpr const char* kHealthActions[] = {"none",   "log",        "slow",  "distrust-links",
                                                 "cordon", "quarantine", "drain", "fence"};

// INVALID_ARGUMENT, "NAME:LINE: what is wrong". At most 1024 rows.
absl::StatusOr<std::vector<HealthRow>> ReadDeviceHealth(const std::string& yaml, const std::string& name);

// The rows of `path`, if it is not empty, and after them the shipped ones.
absl::StatusOr<std::vector<HealthRow>> LoadDeviceHealth(const std::string& path);

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_DEVICE_HEALTH_H_
