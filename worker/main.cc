// tandem-worker: one process, one device. Dials the scheduler, joins the groups that it is told to join, and computes.
// How it ends is said in exit_code.h.
//
// A simulated device (--device sim:RTX3090) computes nothing and takes the real one's time: exec/sim_executor.h. One
// process can play many (--devices-in-process). Two signals make all devices of such a process ill, and well again
// when they come once more: SIGUSR1 slow, ten times the time for a step; SIGUSR2 stuck, no step ends.
#include <glog/logging.h>
#include <grpc/support/log.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log/log.h"
#include "base/security/dialer.h"
#include "config/dial_flags.h"
#include "worker/comm/unique_fd.h"
#include "worker/cuda_device.h"
#include "worker/cuda_plugin.h"
#include "worker/device.h"
#include "worker/device_health.h"
#include "worker/exec/cpu_encoder.h"
#include "worker/exec/cpu_executor.h"
#include "worker/exec/cpu_isa.h"
#include "worker/exec/sim_executor.h"
#include "worker/exit_code.h"
#include "worker/sim_device.h"
#include "worker/topology/nvml_health.h"
#include "worker/worker.h"

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "unknown"
#endif

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStopTime{4000};  // For the step under way and the farewell; all told, SIGTERM takes under 5 s.
constexpr milliseconds kFarewellTime{500};
constexpr int kMostDevices = 1024;  // In one process: each has a handful of threads and descriptors.
constexpr int kParks = -1;          // What Run returns, no exit code.

struct Flags {
  DeviceOptions device;
  SimDeviceOptions sim;
  double sim_speedup = 1;
  int devices_in_process = 1;
  std::string sim_health;
  std::string scheduler = "127.0.0.1:50061";
  security::DialSettings dial = security::DialSettingsFromEnvironment();
  std::string model_root;
  std::string isa = "auto";
  std::string log_format = "text";
  bool die_with_parent = false;
  bool parked = false;
  bool list_devices = false;
};

int Complain(ExitCode code, absl::string_view what) {
  std::fprintf(stderr, "tandem-worker: %.*s\n", static_cast<int>(what.size()), what.data());
  return code;
}

// The end of the worker, asked for from any thread: waits in Wait() of the main thread.
class EndRequest {
 public:
  EndRequest() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { CHECK(event_.valid()); }

  void Ask(absl::Status why) {
    std::lock_guard lock(mu_);
    if (!why_.ok()) return;
    why_ = std::move(why);
    uint64_t one = 1;
    CHECK_EQ(write(event_.get(), &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
  }

  // OK for a signal or the parent's end, which is why we were told to stop. Signals that `take` takes end nothing.
  absl::Status Wait(int signals, int parent, const std::function<bool(int)>& take, std::string* told_by) {
    while (true) {
      pollfd fds[] = {{signals, POLLIN, 0}, {event_.get(), POLLIN, 0}, {parent, POLLIN, 0}};
      while (poll(fds, parent >= 0 ? 3 : 2, -1) < 0 && errno == EINTR) {
      }
      if (fds[0].revents != 0) {
        signalfd_siginfo info{};
        if (read(signals, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
          const int number = static_cast<int>(info.ssi_signo);
          if (take(number)) continue;
          *told_by = strsignal(number);
        }
        return absl::OkStatus();
      }
      if (fds[1].revents == 0) {
        *told_by = "its parent ended";
        return absl::OkStatus();
      }
      std::lock_guard lock(mu_);
      return why_;
    }
  }

 private:
  const UniqueFd event_;
  std::mutex mu_;
  absl::Status why_;
};

// What a process works with, once its flags are understood.
struct Devices {
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<Worker::Options> workers;               // one for each
  std::vector<std::unique_ptr<HealthSource>> health;  // one for each, or none
};

absl::StatusOr<Devices> OpenCpu(const Flags& flags) {
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

absl::StatusOr<Devices> OpenCuda(const Flags& flags, EndRequest* end) {
  const absl::StatusOr<const CudaPlugin*> plugin = LoadCudaPlugin();
  if (!plugin.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("--device ", flags.device.spec, ": ", plugin.status().message()));
  }
  const auto on_lost = [end](absl::string_view reason) { end->Ask(absl::DataLossError(reason)); };
  absl::StatusOr<std::unique_ptr<CudaDevice>> opened =
      CudaDevice::Open({.spec = flags.device.spec,
                        .node = flags.device.node,
                        .memory_utilization = flags.device.memory_utilization,
                        .nvml_library = NvmlLibrary()},
                       *plugin, on_lost);
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

// One line for each GPU that CUDA shows, as --device takes it; none where there is no plugin, driver or GPU, and the
// reason on stderr.
int ListDevices() {
  const absl::StatusOr<const CudaPlugin*> plugin = LoadCudaPlugin();
  if (!plugin.ok()) return Complain(kExitClean, plugin.status().message());
  const absl::StatusOr<std::vector<CudaDeviceFacts>> devices = (*plugin)->list_devices();
  if (!devices.ok()) return Complain(kExitClean, devices.status().message());
  if (devices->empty()) Complain(kExitClean, "CUDA shows no GPU");
  for (const CudaDeviceFacts& device : *devices) std::printf("%s\n", DescribeCudaDevice(device).c_str());
  return kExitClean;
}

absl::StatusOr<Devices> OpenSim(const Flags& flags, const SimFaults* faults) {
  Devices all;
  SimDeviceOptions options = flags.sim;
  options.spec = flags.device.spec;
  options.node = flags.device.node;
  options.memory_utilization = flags.device.memory_utilization;
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

// Many devices need more descriptors than a shell gives by default.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// A parked worker is this program again, in the same process: what the drivers, the allocator and the kernels hold goes
// with the old image, and whoever started it sees nothing of it. A stop signal that comes in between stays pending.
int Park(char** argv) {
  std::vector<char*> arguments;
  for (char** argument = argv; *argument != nullptr; ++argument) arguments.push_back(*argument);
  char parked[] = "--parked";
  const auto said = [&](const char* argument) { return std::strcmp(argument, parked) == 0; };
  if (std::none_of(arguments.begin(), arguments.end(), said)) arguments.push_back(parked);
  arguments.push_back(nullptr);
#ifdef SYS_close_range
  syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
#endif
  execv("/proc/self/exe", arguments.data());
  return Complain(kExitFailure, absl::StrCat("could not start itself anew to park: ", std::strerror(errno)));
}

// kParks: the device is to be given back.
int Run(const Flags& flags, int signals, int parent) {
  SimFaults faults;
  EndRequest end;
  const std::string& spec = flags.device.spec;
  absl::StatusOr<Devices> opened = SimDevice::IsSim(spec)     ? OpenSim(flags, &faults)
                                   : CudaDevice::IsCuda(spec) ? OpenCuda(flags, &end)
                                                              : OpenCpu(flags);
  if (!opened.ok()) {
    // What another process holds now may be free later; everything else stays as it is.
    return Complain(absl::IsAlreadyExists(opened.status()) ? kExitRefused : kExitUsage, opened.status().message());
  }
  std::vector<std::string> warnings;
  const absl::StatusOr<security::Dialer> dialer = security::Dialer::Open(flags.dial, &warnings);
  if (!dialer.ok()) return Complain(kExitUsage, dialer.status().message());
  if (const absl::Status status = dialer->Check(flags.scheduler); !status.ok()) {
    return Complain(kExitUsage, status.message());
  }
  for (const std::string& warning : warnings) LOG(WARNING) << warning;
  if (flags.devices_in_process > 1) RaiseDescriptorLimit();

  std::vector<std::unique_ptr<Worker>> workers;
  for (Worker::Options& options : opened->workers) {
    options.scheduler = flags.scheduler;
    options.dialer = *dialer;
    options.build = TANDEM_VERSION;
    options.model_root = flags.model_root;
    options.on_end = [&end](absl::Status why) { end.Ask(std::move(why)); };
    options.parked = flags.parked;
    // A process with more devices than the one that is drained goes on.
    if (opened->workers.size() == 1) {
      options.on_park = [&end] { end.Ask(absl::AbortedError("a drain wants the device empty")); };
    }
    absl::StatusOr<std::unique_ptr<Worker>> worker = Worker::Start(std::move(options));
    if (!worker.ok()) return Complain(kExitFailure, worker.status().message());
    workers.push_back(*std::move(worker));
  }

  std::vector<std::unique_ptr<HealthWatch>> watches;  // end before what they watch and tell
  for (size_t i = 0; i < opened->health.size(); ++i) {
    watches.push_back(std::make_unique<HealthWatch>(
        std::move(opened->health[i]),
        [worker = workers[i].get()](const HealthReport& report) { worker->ReportHealth(report); }));
  }

  const auto toggle = [&faults](int signal) {
    if (signal != SIGUSR1 && signal != SIGUSR2) return false;
    std::atomic<bool>& fault = signal == SIGUSR1 ? faults.slow : faults.stuck;
    fault = !fault;
    LOG(WARNING) << "simulated devices are " << (fault ? "" : "no longer ") << (signal == SIGUSR1 ? "slow" : "stuck");
    return true;
  };
  std::string told_by;
  const absl::Status why = end.Wait(signals, parent, toggle, &told_by);
  if (absl::IsDeadlineExceeded(why)) {
    // Whatever holds the engine would hold an orderly end as well.
    Complain(kExitStuck, why.message());
    _exit(kExitStuck);
  }
  if (absl::IsDataLoss(why)) {
    // An orderly end would wait for the device. The scheduler hears why, if it can still be told.
    Complain(kExitDeviceLost, why.message());
    for (const auto& worker : workers) worker->BeginStop(why.message());
    for (const auto& worker : workers) worker->Close(kFarewellTime);
    _exit(kExitDeviceLost);
  }
  if (absl::IsAborted(why)) {
    LOG(INFO) << "parking: " << why.message();
    for (const auto& worker : workers) worker->Close(kFarewellTime);
    return kParks;
  }
  const bool told = why.ok() || absl::IsCancelled(why);
  const std::string reason = why.ok() ? told_by : std::string(why.message());
  LOG(INFO) << "stopping: " << reason;
  for (const auto& worker : workers) worker->BeginStop(reason);
  const auto until = std::chrono::steady_clock::now() + kStopTime;
  bool stopped = true;
  for (const auto& worker : workers) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
    stopped &= worker->AwaitStop(std::max(left, milliseconds(0)));
  }
  for (const auto& worker : workers) worker->Close(kFarewellTime);
  const ExitCode code = told ? kExitClean : kExitRefused;
  if (!told) Complain(code, absl::StrCat("the scheduler at ", flags.scheduler, " does not take this worker: ", reason));
  if (!stopped) {
    LOG(WARNING) << "a load or a step did not end in " << kStopTime.count() << " ms, leaving it";
    _exit(code);
  }
  return code;
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("One process, one device: computes in the groups that the scheduler forms", "tandem-worker");
  app.set_version_flag("--version", TANDEM_VERSION);
  app.add_option("--device", flags.device.spec,
                 "cuda:N, cuda:GPU-UUID, cuda:PCI-ADDRESS, cpu:N, or a simulated GPU: sim:MODEL, sim:MODEL:N")
      ->capture_default_str();
  app.add_option("--scheduler", flags.scheduler, "HOST:PORT of the scheduler's workers' door")->capture_default_str();
  for (const config::DialFlag& flag : config::kDialFlags) app.add_option(flag.flag, flags.dial.*flag.field, flag.help);
  app.add_option("--node", flags.device.node, "This machine's name in the cluster (the host's name)");
  app.add_option("--model-root", flags.model_root, "Folder that relative model paths start from");
  app.add_option("--isa", flags.isa, "Kernels to step down to: auto, generic, avx2, avx512, avx512_bf16")
      ->capture_default_str();
  app.add_option("--cpu-devices", flags.device.cpu_devices, "How many CPU devices share this machine")
      ->capture_default_str();
  app.add_option("--cpu-memory", flags.device.cpu_memory, "Bytes of this device, as 4GiB (its share of the machine)")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--cpu-threads", flags.device.cpu_threads, "Compute threads (its share of the cores)");
  app.add_option("--memory-utilization", flags.device.memory_utilization,
                 "Share of the memory that may be used, (0, 1]")
      ->capture_default_str();
  CLI::Option* const speedup = app.add_option("--sim-speedup", flags.sim_speedup,
                                              "How much faster than the real ones simulated devices are; 0: no waiting")
                                   ->check(CLI::Range(0.0, 1e6))
                                   ->capture_default_str();
  CLI::Option* const sim_memory =
      app.add_option("--sim-memory", flags.sim.memory, "Bytes of a simulated device, as 80GiB (the chip's)")
          ->transform(CLI::AsSizeValue(false));
  CLI::Option* const devices = app.add_option("--devices-in-process", flags.devices_in_process,
                                              "Simulated devices that this process plays, by index")
                                   ->check(CLI::Range(1, kMostDevices))
                                   ->capture_default_str();
  CLI::Option* const sim_health = app.add_option("--sim-health", flags.sim_health,
                                                 "File that lists what is wrong with simulated devices, for tests");
  app.add_flag("--die-with-parent", flags.die_with_parent, "Stop when the process that started this one ends");
  app.add_option("--log-format", flags.log_format, "text or json (text)")->check(CLI::IsMember({"text", "json"}));
  app.add_flag("--list-devices", flags.list_devices, "Print the GPUs that --device can name, and end");
  app.add_flag("--parked", flags.parked)->group("");  // said by a worker to itself
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return Complain(kExitUsage, e.what());
  }
  const bool sim = SimDevice::IsSim(flags.device.spec);
  for (const CLI::Option* option : {speedup, sim_memory, devices, sim_health}) {
    if (sim || option->count() == 0) continue;
    return Complain(kExitUsage,
                    absl::StrCat(option->get_name(), " is for simulated devices, not for ", flags.device.spec));
  }
  if (flags.list_devices) return ListDevices();
  FLAGS_logtostderr = true;
  // What gRPC has to say about a scheduler that is away, the link says.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << line->message; });
  google::InitGoogleLogging("tandem-worker");
  if (flags.log_format == "json") LogAsJson("tandem-worker");

  UniqueFd parent;
  if (flags.die_with_parent) {
    const pid_t pid = getppid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    parent.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (getppid() != pid) return Complain(kExitClean, "its parent ended before it began");
  }
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  if (sim) {
    sigaddset(&stop, SIGUSR1);
    sigaddset(&stop, SIGUSR2);
  }
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  signal(SIGPIPE, SIG_IGN);
  UniqueFd signals(signalfd(-1, &stop, SFD_CLOEXEC));
  CHECK(signals.valid());
  const int code = Run(flags, signals.get(), parent.get());
  return code == kParks ? Park(argv) : code;
}

}  // namespace
}  // namespace tandem::worker

int main(int argc, char** argv) { return tandem::worker::Main(argc, argv); }
