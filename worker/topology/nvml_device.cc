#include "worker/topology/nvml_device.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

constexpr unsigned kMostProcesses = 512;

}  // namespace

absl::StatusOr<std::unique_ptr<NvmlDeviceMonitor>> NvmlDeviceMonitor::Open(const std::string& uuid,
                                                                           const std::string& library) {
  absl::StatusOr<nvml::Session> session = nvml::Session::Open(library);
  if (!session.ok()) return session.status();
  const nvml::Api& api = session->api();
  nvml::Device handle = nullptr;
  if (api.handle_by_uuid == nullptr) return absl::NotFoundError("this driver finds no device by uuid");
  if (const nvml::Return error = api.handle_by_uuid(uuid.c_str(), &handle); error != nvml::kSuccess) {
    return absl::NotFoundError(absl::StrCat("NVML has no device ", uuid, ": ", api.Words(error)));
  }
  return std::unique_ptr<NvmlDeviceMonitor>(new NvmlDeviceMonitor(*std::move(session), handle));
}

std::optional<NvmlDeviceMonitor::Memory> NvmlDeviceMonitor::ReadMemory() const {
  nvml::MemoryV2 second{.version = nvml::kMemoryV2};
  if (api().memory_v2 != nullptr && api().memory_v2(handle_, &second) == nvml::kSuccess) {
    return Memory{static_cast<int64_t>(second.total), static_cast<int64_t>(second.free)};
  }
  nvml::Memory first{};
  if (api().memory == nullptr || api().memory(handle_, &first) != nvml::kSuccess) return std::nullopt;
  return Memory{static_cast<int64_t>(first.total), static_cast<int64_t>(first.free)};
}

std::optional<std::vector<NvmlDeviceMonitor::Process>> NvmlDeviceMonitor::Processes() const {
  if (api().processes == nullptr) return std::nullopt;
  std::vector<nvml::ProcessInfo> found(kMostProcesses);
  unsigned count = kMostProcesses;
  if (api().processes(handle_, &count, found.data()) != nvml::kSuccess) return std::nullopt;
  std::vector<Process> processes;
  for (unsigned i = 0; i < std::min(count, kMostProcesses); ++i) {
    const bool told = found[i].memory != nvml::kNotAvailable;
    processes.push_back({static_cast<int>(found[i].pid), told ? static_cast<int64_t>(found[i].memory) : -1});
  }
  return processes;
}

std::optional<int> NvmlDeviceMonitor::BusyPercent() const {
  nvml::Utilization busy{};
  if (api().utilization == nullptr || api().utilization(handle_, &busy) != nvml::kSuccess) return std::nullopt;
  return static_cast<int>(std::min(busy.gpu, 100u));
}

}  // namespace tandem::worker
