// A Worker is one device in service: the door where its groups' ranks meet, the engine that computes, and the line to
// the scheduler. A process has one, except where it plays many simulated devices; to the scheduler each is a worker of
// its own, with its own incarnation and line.
//
// Belongs to the thread that started it. The end has three steps, each for all workers of a process before the next:
// BeginStop(), AwaitStop(), Close().
#ifndef TANDEM_WORKER_WORKER_H_
#define TANDEM_WORKER_WORKER_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/security/dialer.h"
#include "worker/comm/rendezvous.h"
#include "worker/device.h"
#include "worker/engine/device_engines.h"
#include "worker/model_loader.h"
#include "worker/scheduler_link.h"

namespace tandem::worker {

class Worker {
 public:
  struct Options {
    std::string scheduler;    // HOST:PORT
    security::Dialer dialer;  // how to dial it
    std::string build;
    std::string model_root;
    std::string numerics;            // of the device: what the model's numerics id begins with
    const Device* device = nullptr;  // outlives the worker
    ModelLoader::LoadFolder load;
    bool measures_links = true;  // what a simulated device measured would be this machine's memory
    decltype(LinkProbe::Options::open_road) open_road;  // of a link probe; unset: through the host's memory
    std::function<void(absl::Status)> on_end;           // as SchedulerLink::Options, and so are:
    std::function<void()> on_park;
    bool parked = false;
  };

  // Everything runs when it returns; the scheduler need not be there.
  static absl::StatusOr<std::unique_ptr<Worker>> Start(Options options);

  // What the device says of its health. Any thread.
  void ReportHealth(const HealthReport& report) { link_.ReportHealth(report); }

  // Says farewell and lets the engine end what it does.
  void BeginStop(absl::string_view reason);
  // Whether the engine ended in time. Where it did not, only the end of the process frees what it holds.
  bool AwaitStop(std::chrono::milliseconds patience) { return engine_.WaitUntilStopped(patience); }
  // Sends what is queued, at most for `patience`.
  void Close(std::chrono::milliseconds patience) { link_.Close(patience); }

 private:
  Worker(Options options, std::unique_ptr<Rendezvous> rendezvous);

  SchedulerLink::Options LinkOptions();
  EngineLoop::Options EngineOptions();

  const Options options_;
  const std::unique_ptr<Rendezvous> rendezvous_;
  const ModelLoader loader_;
  SchedulerLink link_;
  DeviceEngines engine_;  // reports to link_ until it ends
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_WORKER_H_
