#include "worker/cuda_device.h"

#include <glog/logging.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "worker/leftovers.h"
#include "worker/topology/cpu_topology.h"
#include "worker/visible_devices.h"

namespace tandem::worker {
namespace {

using placement::PathKind;

constexpr absl::string_view kPrefix = "cuda:";

// The kernel writes the domain with four digits where NVML writes eight.
std::string SysfsName(const std::string& bus_id) {
  return absl::StartsWith(bus_id, "0000") && bus_id.size() == 16 ? bus_id.substr(4) : bus_id;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool IsNvLink(PathKind kind) { return kind == PathKind::kNvLink || kind == PathKind::kNvSwitch; }

}  // namespace

bool CudaDevice::IsCuda(absl::string_view spec) { return absl::StartsWith(spec, kPrefix); }

std::string DescribeCudaDevice(const CudaDeviceFacts& facts) {
  return absl::StrCat(kPrefix, facts.ordinal, " ", facts.name, ", ", facts.uuid, ", ", SysfsName(facts.bus_id));
}

absl::StatusOr<int> FindCudaDevice(const std::string& spec, const std::vector<CudaDeviceFacts>& devices,
                                   absl::string_view hidden) {
  const std::string wanted = absl::AsciiStrToLower(absl::StripPrefix(spec, kPrefix));
  if (absl::StartsWith(wanted, "mig-")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device ", spec, ": a slice of a GPU (MIG) reaches no peer; a worker takes a whole GPU"));
  }
  std::vector<int> found;
  int ordinal = -1;
  const bool number = absl::SimpleAtoi(wanted, &ordinal);
  for (size_t i = 0; i < devices.size(); ++i) {
    const CudaDeviceFacts& device = devices[i];
    const bool by_uuid =
        absl::StartsWith(wanted, "gpu-") && absl::StartsWith(absl::AsciiStrToLower(device.uuid), wanted);
    const bool by_bus = absl::StrContains(wanted, ':') &&
                        (absl::EndsWith(device.bus_id, wanted) || absl::EndsWith(device.bus_id, wanted + ".0"));
    if (number ? device.ordinal == ordinal : by_uuid || by_bus) found.push_back(static_cast<int>(i));
  }
  if (found.size() == 1) return found[0];
  const std::string there =
      devices.empty()
          ? "CUDA shows no GPU"
          : absl::StrCat("CUDA shows ", absl::StrJoin(devices, "; ", [](std::string* out, const auto& facts) {
                           absl::StrAppend(out, DescribeCudaDevice(facts));
                         }));
  const char* what = found.empty() ? "no such device" : "names several devices";
  return absl::InvalidArgumentError(
      absl::StrCat("--device ", spec, ": ", what, "; ", there, hidden.empty() ? "" : absl::StrCat(" (", hidden, ")")));
}

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Open(const CudaDeviceOptions& options, const CudaPlugin* plugin,
                                                             std::function<void(absl::string_view)> on_lost) {
  const std::optional<std::string> visible = EnvironmentVariable("CUDA_VISIBLE_DEVICES");
  if (absl::Status status = CheckVisibility(visible, EnvironmentVariable("CUDA_DEVICE_ORDER")); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::vector<CudaDeviceFacts>> all = plugin->list_devices();
  if (!all.ok()) {
    const absl::StatusOr<nvml::Session> session = nvml::Session::Open(options.nvml_library);
    const std::string driver = session.ok() ? session->DriverVersion() : "";
    return absl::FailedPreconditionError(absl::StrCat("--device ", options.spec, ": ", all.status().message(),
                                                      driver.empty() ? "" : absl::StrCat("; the driver is ", driver)));
  }
  const absl::StatusOr<NvmlFacts> machine = ReadNvml(options.nvml_library);
  const absl::StatusOr<int> found = FindCudaDevice(
      options.spec, *all, ExplainVisibility(visible, machine.ok() ? static_cast<int>(machine->devices.size()) : -1));
  if (!found.ok()) return found.status();
  const CudaDeviceFacts& facts = (*all)[*found];

  absl::StatusOr<DeviceLock> lock = DeviceLock::Take(facts.uuid);
  if (!lock.ok()) {
    return absl::Status(lock.status().code(), absl::StrCat("--device ", options.spec, " (", DescribeCudaDevice(facts),
                                                           "): ", lock.status().message()));
  }
  std::unique_ptr<CudaDevice> device(new CudaDevice(*std::move(lock)));
  device->node_ = options.node.empty() ? HostName() : options.node;
  device->kind_ = "cuda";
  device->index_ = facts.ordinal;
  device->model_ = facts.name;
  device->uuid_ = facts.uuid;
  device->pci_bus_id_ = facts.bus_id;
  device->memory_total_ = facts.memory_total;
  if (absl::Status status = device->SetShare(options.memory_utilization, options.reserve); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<NvmlDeviceMonitor>> nvml = NvmlDeviceMonitor::Open(facts.uuid, options.nvml_library);
  if (nvml.ok()) {
    device->nvml_ = *std::move(nvml);
  } else {
    LOG(INFO) << "health, memory of other processes and links are not known: " << nvml.status().message();
  }
  absl::StatusOr<std::unique_ptr<CudaDeviceHandle>> handle = plugin->open_device(facts.ordinal, std::move(on_lost));
  if (!handle.ok()) return handle.status();
  device->handle_ = *std::move(handle);
  device->ReadSurroundings(options, *all);
  if (device->nvml_ != nullptr) AwaitLeftovers(*device->nvml_, facts.uuid, options.leftovers_patience, options.root);
  if (const std::optional<CudaMemory> memory = device->ReadMemory())
    device->used_at_open_ = memory->total - memory->free;
  return device;
}

// Its place among the machine's devices, the cores beside it, and the ways to the others.
void CudaDevice::ReadSurroundings(const CudaDeviceOptions& options, const std::vector<CudaDeviceFacts>& all) {
  const std::string folder = absl::StrCat(options.root, "/sys/bus/pci/devices/", SysfsName(pci_bus_id_));
  cores_ = ParseCoreList(FirstLine(folder + "/local_cpulist"));
  if (!absl::SimpleAtoi(FirstLine(folder + "/numa_node"), &numa_node_)) numa_node_ = -1;

  if (const absl::StatusOr<NvmlFacts> machine = ReadNvml(options.nvml_library); machine.ok()) {
    ReadNvmlLinks(*machine, all);
  }
  ReadCudaWays(options, all);
}

void CudaDevice::ReadNvmlLinks(const NvmlFacts& machine, const std::vector<CudaDeviceFacts>& all) {
  int self = -1;
  for (size_t i = 0; i < machine.devices.size(); ++i) {
    if (machine.devices[i].bus_id == pci_bus_id_) self = static_cast<int>(i);
  }
  if (self < 0) return;
  // nvidia-smi's number, which is the same for every process of the machine, whatever each of them is shown.
  index_ = self;
  if (numa_node_ < 0) numa_node_ = machine.devices[self].numa;
  for (const NvmlLink& link : machine.links) {
    if (link.a != self && link.b != self) continue;
    const NvmlDevice& far = machine.devices[link.a == self ? link.b : link.a];
    bool reaches = link.peer_access.value_or(true);
    for (const CudaDeviceFacts& shown : all) {
      if (shown.bus_id != far.bus_id) continue;
      const absl::StatusOr<CudaPeerWay> way = handle_->WayTo(shown);
      reaches = reaches && (!way.ok() || way->access);
    }
    // An NVLink that may not be used is none.
    const bool usable = reaches || !IsNvLink(link.kind);
    peers_.push_back({.uuid = far.uuid,
                      .link = usable ? link.kind : link.pcie,
                      .nvlinks = usable ? link.nvlinks : 0,
                      .source = "NVML"});
    if (!reaches) {
      LOG(WARNING) << uuid_ << " and " << far.uuid
                   << " can not reach each other's memory; they talk through the host's";
    }
  }
  for (const std::string& note : machine.notes) LOG(INFO) << "NVML: " << note;
}

// Devices that NVML said nothing of.
void CudaDevice::ReadCudaWays(const CudaDeviceOptions& options, const std::vector<CudaDeviceFacts>& all) {
  struct Found {
    const CudaDeviceFacts* peer;
    CudaPeerWay way;
    int numa = -1;
  };
  std::vector<Found> found;
  int best_rank = std::numeric_limits<int>::max();
  for (const CudaDeviceFacts& peer : all) {
    const bool told =
        std::any_of(peers_.begin(), peers_.end(), [&](const Peer& known) { return known.uuid == peer.uuid; });
    if (told || peer.bus_id == pci_bus_id_) continue;
    const absl::StatusOr<CudaPeerWay> way = handle_->WayTo(peer);
    if (!way.ok()) {
      LOG(INFO) << uuid_ << ": the way to " << peer.uuid << " is not known: " << way.status().message();
      continue;
    }
    Found& one = found.emplace_back(Found{&peer, *way});
    const std::string folder = absl::StrCat(options.root, "/sys/bus/pci/devices/", SysfsName(peer.bus_id));
    if (!absl::SimpleAtoi(FirstLine(folder + "/numa_node"), &one.numa)) one.numa = -1;
    best_rank = std::min(best_rank, way->performance_rank);
  }
  for (const Found& one : found) {
    const bool nvlink = one.way.access && one.way.native_atomics;
    // Where the kernel names no node, a way of a worse rank than the best is taken for the longer one.
    const bool nodes_known = numa_node_ >= 0 && one.numa >= 0;
    const bool far = nodes_known ? numa_node_ != one.numa : one.way.performance_rank > best_rank;
    peers_.push_back({.uuid = one.peer->uuid,
                      .link = nvlink ? PathKind::kNvLink
                              : far  ? PathKind::kSys
                                     : PathKind::kPhb,
                      .nvlinks = nvlink ? 1 : 0,
                      .source = "CUDA"});
  }
}

std::optional<CudaMemory> CudaDevice::ReadMemory() const {
  if (nvml_ != nullptr) {
    if (const auto memory = nvml_->ReadMemory()) return CudaMemory{.free = memory->free, .total = memory->total};
  }
  const absl::StatusOr<CudaMemory> memory = handle_->Memory();
  if (memory.ok()) return *memory;
  LOG_EVERY_N(ERROR, 100) << Name() << ": its memory is not told: " << memory.status();
  return std::nullopt;
}

int64_t CudaDevice::FreeOfTotal() const {
  const std::optional<CudaMemory> memory = ReadMemory();
  return memory ? std::clamp<int64_t>(memory->free, 0, memory_total_) : 0;
}

int64_t CudaDevice::FreeBytes() const {
  const int64_t kept_free = memory_total_ - Budget();
  return std::max<int64_t>(0, FreeOfTotal() - kept_free);
}

int64_t CudaDevice::HeldBytes() const {
  if (nvml_ != nullptr) {
    for (const auto& process : nvml_->Processes().value_or(std::vector<NvmlDeviceMonitor::Process>{})) {
      if (process.pid == getpid() && process.bytes >= 0) return process.bytes;
    }
  }
  // In a container the driver counts processes by other numbers. What came since the start is taken for our own.
  const std::optional<CudaMemory> memory = ReadMemory();
  return memory ? std::max<int64_t>(0, memory->total - memory->free - used_at_open_) : 0;
}

void CudaDevice::PinThread() const {
  cpu_set_t allowed, near;
  CPU_ZERO(&near);
  if (cores_.empty() || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  int count = 0;
  for (const int core : cores_) {
    if (core >= CPU_SETSIZE || !CPU_ISSET(core, &allowed)) continue;
    CPU_SET(core, &near);
    ++count;
  }
  if (count > 0) sched_setaffinity(0, sizeof(near), &near);
}

}  // namespace tandem::worker
