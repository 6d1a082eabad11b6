// The command line of tandem-worker, and what the configuration says where the command line is silent: flag over
// environment over file, as everywhere. Plain values, read once in main.
#ifndef TANDEM_WORKER_WORKER_FLAGS_H_
#define TANDEM_WORKER_WORKER_FLAGS_H_

#include <string>

#include "absl/status/status.h"
#include "base/security/settings.h"
#include "config/service_program.h"
#include "worker/device.h"
#include "worker/sim_device.h"

namespace tandem::worker {

struct WorkerFlags {
  DeviceOptions device;
  SimDeviceOptions sim;
  double sim_speedup = 1;
  int devices_in_process = 1;
  std::string sim_health;
  std::string scheduler;  // HOST:PORT
  security::DialSettings dial;
  std::string model_root;
  std::string isa = "auto";
  bool parked = false;
  bool list_devices = false;
};

// Before program.Begin().
void AddWorkerFlags(config::ServiceProgram& program, WorkerFlags& flags);
// After it: takes from the configuration what no flag of its own says. INVALID_ARGUMENT for flags that do not go
// together.
absl::Status CompleteWorkerFlags(config::ServiceProgram& program, WorkerFlags& flags);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_WORKER_FLAGS_H_
