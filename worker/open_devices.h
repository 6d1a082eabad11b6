// What a worker process computes on: its devices, and for each how models are loaded onto it and who watches its
// health.
#ifndef TANDEM_WORKER_OPEN_DEVICES_H_
#define TANDEM_WORKER_OPEN_DEVICES_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/device.h"
#include "worker/device_health.h"
#include "worker/exec/sim_executor.h"
#include "worker/worker.h"
#include "worker/worker_flags.h"

namespace tandem::worker {

struct Devices {
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<Worker::Options> workers;               // one for each: device, numerics, and how to load
  std::vector<std::unique_ptr<HealthSource>> health;  // one for each, or none
};

// By the kind that --device names. `faults` are those of simulated devices; `on_lost` is called, on any thread, when a
// GPU has an error that stays. Both outlive what is returned. ALREADY_EXISTS: another process has the device; any other
// error is one of how the program was called.
absl::StatusOr<Devices> OpenDevices(const WorkerFlags& flags, const SimFaults* faults,
                                    std::function<void(absl::string_view reason)> on_lost);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_OPEN_DEVICES_H_
