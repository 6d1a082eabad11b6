// One GPU, as NVML sees it while it works: its memory, who holds it, how busy it is. NVML needs no context on the
// device and counts all processes of the machine.
//
// Any thread.
#ifndef TANDEM_WORKER_TOPOLOGY_NVML_DEVICE_H_
#define TANDEM_WORKER_TOPOLOGY_NVML_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/topology/nvml_api.h"

namespace tandem::worker {

class NvmlDeviceMonitor {
 public:
  struct Memory {
    int64_t total = 0, free = 0;
  };
  struct Process {
    int pid = 0;        // as the host counts; a container may not see it
    int64_t bytes = 0;  // -1: not told
  };

  // NOT_FOUND where there is no NVML, or it has no such device.
  static absl::StatusOr<std::unique_ptr<NvmlDeviceMonitor>> Open(const std::string& uuid, const std::string& library);

  // Nothing where the driver does not tell.
  std::optional<Memory> ReadMemory() const;
  std::optional<std::vector<Process>> Processes() const;
  std::optional<int> BusyPercent() const;

  std::string DriverVersion() const { return session_.DriverVersion(); }
  const nvml::Api& api() const { return session_.api(); }
  nvml::Device handle() const { return handle_; }

 private:
  NvmlDeviceMonitor(nvml::Session session, nvml::Device handle) : session_(std::move(session)), handle_(handle) {}

  const nvml::Session session_;
  const nvml::Device handle_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_TOPOLOGY_NVML_DEVICE_H_
