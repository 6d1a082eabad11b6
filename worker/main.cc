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
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/descriptor_limit.h"
#include "base/notify/notifier.h"
#include "base/security/dialer.h"
#include "config/service_program.h"
#include "worker/comm/unique_fd.h"
#include "worker/cuda_device.h"
#include "worker/cuda_plugin.h"
#include "worker/device_health.h"
#include "worker/exec/sim_executor.h"
#include "worker/exit_code.h"
#include "worker/open_devices.h"
#include "worker/sim_device.h"
#include "worker/worker.h"
#include "worker/worker_flags.h"

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "unknown"
#endif

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStopTime{4000};  // For the step under way and the farewell; all told, SIGTERM takes under 5 s.
constexpr milliseconds kFarewellTime{500};
constexpr int kParks = -1;  // What Run returns, no exit code.

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
  // Comes round often enough for whoever watches this process, and says so.
  absl::Status Wait(int signals, int parent, const Notifier& notifier, const std::function<bool(int)>& take,
                    std::string* told_by) {
    const auto watchdog = notifier.watchdog();
    const int round_ms = watchdog ? std::max(1, static_cast<int>(watchdog->count() / 4000)) : -1;
    while (true) {
      notifier.TellAlive();
      pollfd fds[] = {{signals, POLLIN, 0}, {event_.get(), POLLIN, 0}, {parent, POLLIN, 0}};
      if (poll(fds, parent >= 0 ? 3 : 2, round_ms) <= 0) continue;  // time to say so again, or interrupted
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

using Workers = std::vector<std::unique_ptr<Worker>>;

absl::StatusOr<Workers> StartWorkers(const WorkerFlags& flags, const security::Dialer& dialer, Devices& opened,
                                     EndRequest& end) {
  Workers workers;
  for (Worker::Options& options : opened.workers) {
    options.scheduler = flags.scheduler;
    options.dialer = dialer;
    options.build = TANDEM_VERSION;
    options.model_root = flags.model_root;
    options.on_end = [&end](absl::Status why) { end.Ask(std::move(why)); };
    options.parked = flags.parked;
    // A process with more devices than the one that is drained goes on.
    if (opened.workers.size() == 1) {
      options.on_park = [&end] { end.Ask(absl::AbortedError("a drain wants the device empty")); };
    }
    absl::StatusOr<std::unique_ptr<Worker>> worker = Worker::Start(std::move(options));
    if (!worker.ok()) return worker.status();
    workers.push_back(*std::move(worker));
  }
  return workers;
}

// What the step under way needs gets kStopTime. The exit code.
int Stop(const Workers& workers, const std::string& reason, bool told, const std::string& scheduler) {
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
  if (!told) Complain(code, absl::StrCat("the scheduler at ", scheduler, " does not take this worker: ", reason));
  if (!stopped) {
    LOG(WARNING) << "a load or a step did not end in " << kStopTime.count() << " ms, leaving it";
    _exit(code);
  }
  return code;
}

// By why the worker ends. kParks: the device is to be given back.
int End(const Workers& workers, const absl::Status& why, const std::string& told_by, const std::string& scheduler) {
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
  const std::string reason = why.ok() ? told_by : std::string(why.message());
  return Stop(workers, reason, why.ok() || absl::IsCancelled(why), scheduler);
}

bool Toggle(SimFaults& faults, int signal) {
  if (signal != SIGUSR1 && signal != SIGUSR2) return false;
  std::atomic<bool>& fault = signal == SIGUSR1 ? faults.slow : faults.stuck;
  fault = !fault;
  LOG(WARNING) << "simulated devices are " << (fault ? "" : "no longer ") << (signal == SIGUSR1 ? "slow" : "stuck");
  return true;
}

// The exit code, or kParks.
int Run(const WorkerFlags& flags, const Notifier& notifier, int signals, int parent) {
  SimFaults faults;
  EndRequest end;
  absl::StatusOr<Devices> opened =
      OpenDevices(flags, &faults, [&end](absl::string_view reason) { end.Ask(absl::DataLossError(reason)); });
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

  const absl::StatusOr<Workers> workers = StartWorkers(flags, *dialer, *opened, end);
  if (!workers.ok()) return Complain(kExitFailure, workers.status().message());
  std::vector<std::unique_ptr<HealthWatch>> watches;  // end before what they watch and tell
  for (size_t i = 0; i < opened->health.size(); ++i) {
    watches.push_back(std::make_unique<HealthWatch>(
        std::move(opened->health[i]),
        [worker = (*workers)[i].get()](const HealthReport& report) { worker->ReportHealth(report); }));
  }
  notifier.Tell(kNotifyReady);
  std::string told_by;
  const absl::Status why = end.Wait(
      signals, parent, notifier, [&faults](int signal) { return Toggle(faults, signal); }, &told_by);
  return End(*workers, why, told_by, flags.scheduler);
}

// Readable when a signal has come that ends the worker, or makes simulated devices ill.
UniqueFd OpenSignals(bool sim) {
  sigset_t taken;
  sigemptyset(&taken);
  for (const int number : {SIGTERM, SIGINT}) sigaddset(&taken, number);
  if (sim) {
    for (const int number : {SIGUSR1, SIGUSR2}) sigaddset(&taken, number);
  }
  pthread_sigmask(SIG_BLOCK, &taken, nullptr);
  UniqueFd signals(signalfd(-1, &taken, SFD_CLOEXEC));
  CHECK(signals.valid());
  return signals;
}

int Main(int argc, char** argv) {
  // What gRPC has to say about a scheduler that is away, the link says.
  gpr_set_log_function([](gpr_log_func_args* line) { VLOG(1) << line->message; });
  config::ServiceProgram program(
      "tandem-worker", "One process, one device: computes in the groups that the scheduler forms", TANDEM_VERSION);
  WorkerFlags flags;
  AddWorkerFlags(program, flags);
  if (const auto code = program.Begin(argc, argv)) return *code;
  if (const absl::Status status = CompleteWorkerFlags(program, flags); !status.ok()) {
    return Complain(kExitUsage, status.message());
  }
  if (flags.list_devices) return ListDevices();
  UniqueFd parent;
  if (program.dies_with_parent()) parent.Reset(static_cast<int>(syscall(SYS_pidfd_open, getppid(), 0)));
  const UniqueFd signals = OpenSignals(SimDevice::IsSim(flags.device.spec));
  const int code = Run(flags, *program.notifier(), signals.get(), parent.get());
  if (code != kParks) return code;
  program.notifier()->Tell(kNotifyReloading);
  return Park(argv);
}

}  // namespace
}  // namespace tandem::worker

int main(int argc, char** argv) { return tandem::worker::Main(argc, argv); }
