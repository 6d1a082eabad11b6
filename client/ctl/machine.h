// What this machine has, as far as it can be told without a driver's library: for `configure` and `validate`.
#ifndef TANDEM_CLIENT_CTL_MACHINE_H_
#define TANDEM_CLIENT_CTL_MACHINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::client::ctl {

struct Machine {
  int gpus = 0;                    // that the driver shows to this process or container
  std::vector<std::string> uuids;  // of the machine's GPUs, also of those that a container was not given
  std::string driver;              // the kernel module's version; empty: none is loaded
  int cores = 1;                   // that this process may use
  uint64_t memory_bytes = 0;       // the control group's limit, else the machine's
  uint64_t shared_bytes = 0;       // free in /dev/shm
};

// `root` is "/" but in tests.
Machine LookAround(const std::string& root = "/");

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_MACHINE_H_
