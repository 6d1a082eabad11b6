// tandem-worker: one process, one device. Dials the scheduler, joins the groups that it is told to join, and computes.
// How it ends is said in exit_code.h.
#include <glog/logging.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/comm/group_bootstrap.h"
#include "worker/comm/rendezvous.h"
#include "worker/comm/unique_fd.h"
#include "worker/device.h"
#include "worker/engine/engine_loop.h"
#include "worker/exec/cpu_isa.h"
#include "worker/exit_code.h"
#include "worker/model_loader.h"
#include "worker/scheduler_link.h"

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "unknown"
#endif

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStopTime{4000};  // For the step under way and the farewell; all told, SIGTERM takes under 5 s.
constexpr milliseconds kFarewellTime{500};

struct Flags {
  DeviceOptions device;
  std::string scheduler = "127.0.0.1:50061";
  std::string model_root;
  std::string isa = "auto";
  bool die_with_parent = false;
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

  // OK for a signal or the parent's end, which is why we were told to stop.
  absl::Status Wait(int signals, int parent, std::string* told_by) {
    pollfd fds[] = {{signals, POLLIN, 0}, {event_.get(), POLLIN, 0}, {parent, POLLIN, 0}};
    while (poll(fds, parent >= 0 ? 3 : 2, -1) < 0 && errno == EINTR) {
    }
    if (fds[0].revents != 0) {
      signalfd_siginfo info{};
      if (read(signals, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
        *told_by = strsignal(static_cast<int>(info.ssi_signo));
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

 private:
  const UniqueFd event_;
  std::mutex mu_;
  absl::Status why_;
};

int Run(const Flags& flags, int signals, int parent) {
  absl::StatusOr<CpuDevice> device = CpuDevice::Open(flags.device);
  if (!device.ok()) return Complain(kExitUsage, device.status().message());
  absl::StatusOr<const CpuKernels*> kernels = ChooseKernels(flags.isa);
  if (!kernels.ok()) return Complain(kExitUsage, absl::StrCat("--isa: ", kernels.status().message()));
  absl::StatusOr<std::unique_ptr<Rendezvous>> rendezvous = Rendezvous::Start();
  if (!rendezvous.ok()) return Complain(kExitFailure, rendezvous.status().message());

  EndRequest end;
  SchedulerLink::Options options{.scheduler = flags.scheduler,
                                 .build = TANDEM_VERSION,
                                 .rendezvous = (*rendezvous)->endpoint(),
                                 .numerics = absl::StrCat("cpu/", flags.isa == "auto" ? AvailableIsas()[0] : flags.isa),
                                 .device = &*device,
                                 .join_probe =
                                     [&rendezvous](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
                                       return JoinGroup(**rendezvous, identity,
                                                        {.call_timeout = absl::Seconds(1), .cancelled = cancelled});
                                     },
                                 .on_end = [&end](absl::Status why) { end.Ask(std::move(why)); }};
  CHECK_EQ(getrandom(options.incarnation.data(), options.incarnation.size(), 0),
           static_cast<ssize_t>(options.incarnation.size()));
  SchedulerLink link(options);
  const ModelLoader loader(&*device, flags.model_root, flags.isa);
  // A rank may wait for a peer that still reads its weights. Dead peers are seen by their pidfds and frozen ones by the
  // scheduler, so this limit is only the last resort.
  const absl::Duration call_timeout = absl::Minutes(10);
  EngineLoop engine(
      {.services = {.load_model = [&loader](const LoadSpec& spec, Communicator* c) { return loader.Load(spec, c); },
                    .free_bytes = [&device] { return device->FreeBytes(); },
                    .private_bytes = [] { return ExactPrivateBytes(); }},
       .join =
           [&rendezvous, call_timeout](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
             return JoinGroup(**rendezvous, identity, {.call_timeout = call_timeout, .cancelled = cancelled});
           },
       .report = [&link](Report report) { link.Report(std::move(report)); },
       .on_thread_start = [&device] { device->PinThread(); }});
  link.Start(&engine);
  LOG(INFO) << device->node() << "/cpu:" << device->index() << " (" << device->model() << ", " << device->threads()
            << " threads, " << device->memory_total() << " bytes) dials " << flags.scheduler;

  std::string told_by;
  const absl::Status why = end.Wait(signals, parent, &told_by);
  if (absl::IsDeadlineExceeded(why)) {
    // Whatever holds the engine would hold an orderly end as well.
    Complain(kExitStuck, why.message());
    _exit(kExitStuck);
  }
  const bool told = why.ok() || absl::IsCancelled(why);
  const std::string reason = why.ok() ? told_by : std::string(why.message());
  LOG(INFO) << "stopping: " << reason;
  link.Leave(reason);
  engine.Post(Stop{absl::StrCat("the worker stops: ", reason)});
  const bool stopped = engine.WaitUntilStopped(kStopTime);
  link.Close(kFarewellTime);
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
  app.add_option("--device", flags.device.spec, "cpu:N")->capture_default_str();
  app.add_option("--scheduler", flags.scheduler, "HOST:PORT of the scheduler's workers' door")->capture_default_str();
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
  app.add_flag("--die-with-parent", flags.die_with_parent, "Stop when the process that started this one ends");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return Complain(kExitUsage, e.what());
  }
  FLAGS_logtostderr = true;
  google::InitGoogleLogging("tandem-worker");

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
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  signal(SIGPIPE, SIG_IGN);
  UniqueFd signals(signalfd(-1, &stop, SFD_CLOEXEC));
  CHECK(signals.valid());
  return Run(flags, signals.get(), parent.get());
}

}  // namespace
}  // namespace tandem::worker

int main(int argc, char** argv) { return tandem::worker::Main(argc, argv); }
