#include "worker/worker_flags.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/endpoint.h"

namespace tandem::worker {
namespace {

constexpr int kMostDevices = 1024;  // In one process: each has a handful of threads and descriptors.
constexpr const char* kOfSimulated[] = {"--sim-speedup", "--sim-memory", "--devices-in-process", "--sim-health"};

}  // namespace

void AddWorkerFlags(config::ServiceProgram& program, WorkerFlags& flags) {
  CLI::App& app = program.app();
  app.add_option("--device", flags.device.spec,
                 "cuda:N, cuda:GPU-UUID, cuda:PCI-ADDRESS, cpu:N, or a simulated GPU: sim:MODEL, sim:MODEL:N")
      ->capture_default_str();
  app.add_option("--scheduler", flags.scheduler, "HOST:PORT of the scheduler's workers' door (server.workers)");
  program.DialFlags();
  app.add_option("--node", flags.device.node, "This machine's name in the cluster (the host's name)");
  program.Layered("--model-root", "model_root", "Folder that relative model paths start from");
  app.add_option("--isa", flags.isa, "Kernels to step down to: auto, generic, avx2, avx512, avx512_bf16")
      ->capture_default_str();
  app.add_option("--cpu-devices", flags.device.cpu_devices,
                 "How many CPU devices share this machine (those of devices.select)");
  program.Layered("--cpu-memory", "devices.cpu_memory", "Bytes of this device, as 4GiB (its share of the machine)");
  program.Layered("--cpu-threads", "devices.cpu_threads", "Compute threads (its share of the cores)");
  program.Layered("--memory-utilization", "devices.memory_utilization", "Share of the memory that may be used, (0, 1]");
  program.Layered("--reserve", "devices.reserve", "Bytes of the device, as 2GiB, that are left to others (0)");
  program.Layered("--sim-speedup", "devices.sim_speedup",
                  "How much faster than the real ones simulated devices are; 0: no waiting (1)");
  program.Layered("--sim-memory", "devices.sim_memory", "Bytes of a simulated device, as 80GiB (the chip's)");
  app.add_option("--devices-in-process", flags.devices_in_process,
                 "Simulated devices that this process plays, by index")
      ->check(CLI::Range(1, kMostDevices))
      ->capture_default_str();
  app.add_option("--sim-health", flags.sim_health, "File that lists what is wrong with simulated devices, for tests");
  app.add_flag("--list-devices", flags.list_devices, "Print the GPUs that --device can name, and end");
  app.add_flag("--parked", flags.parked)->group("");  // said by a worker to itself
}

absl::Status CompleteWorkerFlags(config::ServiceProgram& program, WorkerFlags& flags) {
  for (const char* name : kOfSimulated) {
    if (SimDevice::IsSim(flags.device.spec) || program.app().get_option(name)->count() == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(name, " is for simulated devices, not for ", flags.device.spec));
  }
  const config::ClusterConfig& config = program.config();
  if (flags.scheduler.empty()) {
    const auto door = config::ParseEndpoint(config.server.workers);
    if (!door.ok()) return door.status();
    flags.scheduler = door->DialAddress();
  }
  if (program.app().get_option("--cpu-devices")->count() == 0) {
    const auto& select = config.devices.select;
    const auto cpus = std::count_if(select.begin(), select.end(),
                                    [](const std::string& device) { return absl::StartsWith(device, "cpu:"); });
    flags.device.cpu_devices = std::max(1, static_cast<int>(cpus));
  }
  flags.dial = config.security.dial;
  flags.model_root = config.model_root;
  flags.device.cpu_memory = static_cast<int64_t>(config.devices.cpu_memory_bytes);
  flags.device.cpu_threads = config.devices.cpu_threads;
  flags.device.memory_utilization = config.devices.memory_utilization;
  flags.device.reserve = static_cast<int64_t>(config.devices.reserve_bytes);
  flags.sim.memory = static_cast<int64_t>(config.devices.sim_memory_bytes);
  flags.sim_speedup = config.devices.sim_speedup;
  return absl::OkStatus();
}

}  // namespace tandem::worker
