#include "worker/open_devices.h"

#include <glog/logging.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/cuda_device.h"
#include "worker/cuda_plugin.h"
#include "worker/exec/cpu_encoder.h"
#include "worker/exec/cpu_executor.h"
#include "worker/exec/cpu_isa.h"
#include "worker/sim_device.h"
#include "worker/topology/nvml_health.h"

namespace tandem::worker {
namespace {

absl::StatusOr<Devices> OpenCpu(const WorkerFlags& flags) {
  absl::StatusOr<CpuDevice> opened = CpuDevice::Open(flags.device);
  if (!opened.ok()) return opened.status();
  const absl::StatusOr<const CpuKernels*> kernels = ChooseKernels(flags.isa);
  if (!kernels.ok()) return absl::InvalidArgumentError(absl::StrCat("--isa: ", kernels.status().message()));
  auto device = std::make_unique<CpuDevice>(*std::move(opened));
  Worker::Options worker{
      .numerics = absl::StrCat("cpu/", flags.isa == "auto" ? AvailableIsas()[0] : flags.isa),
      .device = device.get(),
      .load = [isa = flags.isa, threads = device->threads()](const std::string& folder, const LoadSpec& spec,
                                                             int64_t limit, Communicator* communicator) {
        const CpuModelOptions options{.folder = folder,
                                      .dtype = spec.dtype.empty() ? "auto" : spec.dtype,
                                      .isa = isa,
                                      .threads = threads,
                                      .max_batch_tokens = static_cast<int32_t>(spec.max_batch_tokens),
                                      .max_sequences = static_cast<int32_t>(spec.max_sequences),
                                      .memory_limit_bytes = limit};
        return spec.task == "generate" ? LoadCpuModel(options, communicator)
                                       : LoadCpuEncoder(options, spec.task, communicator);
      }};
  Devices all;
  all.devices.push_back(std::move(device));
  all.workers.push_back(std::move(worker));
  return all;
}

std::string NvmlLibrary() {
  const char* library = std::getenv("TANDEM_NVML_LIBRARY");
  return library != nullptr ? library : CudaDeviceOptions().nvml_library;
}

absl::StatusOr<Devices> OpenCuda(const WorkerFlags& flags, std::function<void(absl::string_view)> on_lost) {
  const absl::StatusOr<const CudaPlugin*> plugin = LoadCudaPlugin();
  if (!plugin.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("--device ", flags.device.spec, ": ", plugin.status().message()));
  }
  absl::StatusOr<std::unique_ptr<CudaDevice>> opened =
      CudaDevice::Open({.spec = flags.device.spec,
                        .node = flags.device.node,
                        .memory_utilization = flags.device.memory_utilization,
                        .reserve = flags.device.reserve,
                        .nvml_library = NvmlLibrary()},
                       *plugin, std::move(on_lost));
  if (!opened.ok()) return opened.status();
  CudaDevice* const device = opened->get();
  const CudaDeviceFacts& facts = device->facts();
  LOG(INFO) << flags.device.spec << " is " << DescribeCudaDevice(facts) << ", index " << device->index()
            << " of this machine";
  Devices all;
  all.workers.push_back(
      {.numerics = absl::StrCat("cuda/sm_", facts.compute_major, facts.compute_minor),
       .device = device,
       .load =
           [device](const std::string& folder, const LoadSpec& spec, int64_t limit, Communicator* communicator) {
             return device->handle().Load({.folder = folder,
                                           .task = spec.task,
                                           .dtype = spec.dtype.empty() ? "auto" : spec.dtype,
                                           .max_batch_tokens = static_cast<int32_t>(spec.max_batch_tokens),
                                           .max_sequences = static_cast<int32_t>(spec.max_sequences),
                                           .max_model_len = static_cast<int32_t>(spec.max_model_len),
                                           .memory_limit_bytes = limit},
                                          communicator);
           },
       .open_road = [device](Communicator* communicator,
                             size_t floats) { return device->handle().OpenRoad(communicator, floats); }});
  if (device->nvml() != nullptr) all.health.push_back(std::make_unique<NvmlHealth>(device->nvml()));
  all.devices.push_back(*std::move(opened));
  return all;
}

absl::StatusOr<Devices> OpenSim(const WorkerFlags& flags, const SimFaults* faults) {
  Devices all;
  SimDeviceOptions options = flags.sim;
  options.spec = flags.device.spec;
  options.node = flags.device.node;
  options.memory_utilization = flags.device.memory_utilization;
  options.reserve = flags.device.reserve;
  for (options.offset = 0; options.offset < flags.devices_in_process; ++options.offset) {
    absl::StatusOr<std::unique_ptr<SimDevice>> device = SimDevice::Open(options);
    if (!device.ok()) return device.status();
    SimDevice* const sim = device->get();
    all.workers.push_back({.numerics = absl::StrCat("sim/", sim->chip().name),
                           .device = sim,
                           .load = [sim, faults, speedup = flags.sim_speedup](
                                       const std::string& folder, const LoadSpec& spec, int64_t limit,
                                       Communicator* communicator) -> absl::StatusOr<std::unique_ptr<Executor>> {
                             if (spec.task != "generate") {
                               return absl::UnimplementedError(absl::StrCat(
                                   "task ", spec.task, " is computed on CPU devices only, not on simulated ones"));
                             }
                             return LoadSimModel({.folder = folder,
                                                  .dtype = spec.dtype.empty() ? "auto" : spec.dtype,
                                                  .max_batch_tokens = static_cast<int32_t>(spec.max_batch_tokens),
                                                  .max_sequences = static_cast<int32_t>(spec.max_sequences),
                                                  .memory_limit_bytes = limit,
                                                  .chip = &sim->chip(),
                                                  .speedup = speedup,
                                                  .memory = &sim->memory(),
                                                  .faults = faults},
                                                 communicator);
                           },
                           .measures_links = false});
    if (!flags.sim_health.empty()) all.health.push_back(std::make_unique<HealthFile>(flags.sim_health));
    all.devices.push_back(*std::move(device));
  }
  return all;
}

}  // namespace

absl::StatusOr<Devices> OpenDevices(const WorkerFlags& flags, const SimFaults* faults,
                                    std::function<void(absl::string_view reason)> on_lost) {
  if (SimDevice::IsSim(flags.device.spec)) return OpenSim(flags, faults);
  if (CudaDevice::IsCuda(flags.device.spec)) return OpenCuda(flags, std::move(on_lost));
  return OpenCpu(flags);
}

}  // namespace tandem::worker
