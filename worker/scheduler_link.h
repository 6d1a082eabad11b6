// The SchedulerLink is this worker's line to the scheduler: it dials, says what the worker holds, brings commands to
// the engine and reports to the scheduler, and dials again when the line breaks.
//
// A lost line is not a lost worker. What runs goes on; after `orphan_grace` without a scheduler it is aborted. Control
// reports that found no line are not kept: the next Hello says what is held by then. Tokens are not kept either: the
// engine's log has them, and each new line begins with a replay of it; until that begins (StepDone::line), newer steps
// are dropped, so that the scheduler never sees a gap.
//
// Everything that is queued is bounded. A line that can not take more is cut, and the next one replays.
//
// Report() is the engine thread's, and never blocks. Start, Leave and Close belong to the owner.
#ifndef TANDEM_WORKER_SCHEDULER_LINK_H_
#define TANDEM_WORKER_SCHEDULER_LINK_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/security/dialer.h"
#include "worker/device.h"
#include "worker/engine/device_engines.h"
#include "worker/engine/report.h"
#include "worker/link_probe.h"
#include "worker/topology/health_report.h"

namespace tandem::worker {

class SchedulerLink {
 public:
  struct Options {
    std::string scheduler;    // HOST:PORT
    security::Dialer dialer;  // how to dial it
    std::string build;
    std::array<uint8_t, 16> incarnation{};
    std::string rendezvous;
    std::string numerics;
    const Device* device = nullptr;  // outlives the link
    // Meets the other rank of a link probe; unset: this worker can not measure.
    decltype(LinkProbe::Options::join) join_probe;
    decltype(LinkProbe::Options::open_road) open_road;  // as there
    // Called once, from a thread of the link, when the worker must end: the scheduler does not take it
    // (FAILED_PRECONDITION and the like), told it to (CANCELLED), or an abort hangs (DEADLINE_EXCEEDED).
    std::function<void(absl::Status)> on_end;
    // Called when a drain wants the device empty; the answer has been sent. The owner becomes a new process that says
    // `parked`. Unset: the link says so itself, with a new line, for a process that has more than this device.
    std::function<void()> on_park;
    bool parked = false;
    std::chrono::milliseconds most_abort_time{10000};
    // A scheduler that was never there is one that is just starting, for so long: nothing is said of it.
    std::chrono::milliseconds most_quiet{5000};
  };

  explicit SchedulerLink(Options options);
  ~SchedulerLink();

  // REQUIRES: `engine` outlives the link's Close().
  void Start(DeviceEngines* engine);

  void Report(tandem::worker::Report report);

  // What the device says of its health. Any thread. What lasts is told to each new line, what happened is kept until
  // there is one.
  void ReportHealth(const HealthReport& report);

  // Tells the scheduler that the worker is going to exit. The line stays open, so that the end of its groups is heard.
  void Leave(absl::string_view reason);

  // Sends what is queued, at most for `patience`, and closes the line for good.
  void Close(std::chrono::milliseconds patience);

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;  // Calls in flight hold it, too.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_SCHEDULER_LINK_H_
