#include "worker/worker.h"

#include <glog/logging.h>
#include <sys/prctl.h>
#include <sys/random.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "worker/comm/group_bootstrap.h"

namespace tandem::worker {
namespace {

// A rank may wait for a peer that still reads its weights. Dead peers are seen by their pidfds and frozen ones by the
// scheduler, so this limit is only the last resort.
constexpr absl::Duration kCallTimeout = absl::Minutes(10);
constexpr absl::Duration kProbeCallTimeout = absl::Seconds(1);
// Of ranks that open a road of their own first: each makes its device's context, which takes seconds.
constexpr absl::Duration kRoadCallTimeout = absl::Seconds(20);
// The kernel lets sleeps of a common thread last 50 us longer, and the engine's waits for a device are made of sleeps.
constexpr unsigned long kTimerSlackNs = 1000;

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(Options options) {
  absl::StatusOr<std::unique_ptr<Rendezvous>> rendezvous = Rendezvous::Start();
  if (!rendezvous.ok()) return rendezvous.status();
  std::unique_ptr<Worker> worker(new Worker(std::move(options), *std::move(rendezvous)));
  worker->link_.Start(&worker->engine_);
  const Device& device = *worker->options_.device;
  LOG(INFO) << device.Name() << " (" << device.model() << ", " << device.threads() << " threads, "
            << device.memory_total() << " bytes) dials " << worker->options_.scheduler;
  for (const Device::Cache& cache : device.caches()) {
    LOG(INFO) << device.Name() << ": cache L" << cache.level << ", " << (cache.bytes >> 10) << " KiB of cores "
              << cache.cores;
  }
  return worker;
}

Worker::Worker(Options options, std::unique_ptr<Rendezvous> rendezvous)
    : options_(std::move(options)),
      rendezvous_(std::move(rendezvous)),
      loader_(options_.device, options_.model_root, options_.load),
      link_(LinkOptions()),
      engine_(EngineOptions()) {}

SchedulerLink::Options Worker::LinkOptions() {
  SchedulerLink::Options link{.scheduler = options_.scheduler,
                              .dialer = options_.dialer,
                              .build = options_.build,
                              .rendezvous = rendezvous_->endpoint(),
                              .numerics = options_.numerics,
                              .device = options_.device,
                              .on_end = options_.on_end,
                              .on_park = options_.on_park,
                              .parked = options_.parked};
  if (options_.measures_links) {
    const absl::Duration call_timeout = options_.open_road ? kRoadCallTimeout : kProbeCallTimeout;
    link.join_probe = [this, call_timeout](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
      return JoinGroup(*rendezvous_, identity, {.call_timeout = call_timeout, .cancelled = cancelled});
    };
    link.open_road = options_.open_road;
  }
  CHECK_EQ(getrandom(link.incarnation.data(), link.incarnation.size(), 0),
           static_cast<ssize_t>(link.incarnation.size()));
  return link;
}

EngineLoop::Options Worker::EngineOptions() {
  return {.services = {.load_model = [this](const LoadSpec& spec,
                                            Communicator* group) { return loader_.Load(spec, group); },
                       .free_bytes = [this] { return options_.device->FreeBytes(); },
                       .private_bytes = [this] { return options_.device->ExactHeldBytes(); }},
          .join =
              [this](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
                return JoinGroup(*rendezvous_, identity, {.call_timeout = kCallTimeout, .cancelled = cancelled});
              },
          .report = [this](Report report) { link_.Report(std::move(report)); },
          .on_thread_start =
              [this] {
                options_.device->PinThread();
                prctl(PR_SET_TIMERSLACK, kTimerSlackNs);
              }};
}

void Worker::BeginStop(absl::string_view reason) {
  link_.Leave(reason);
  engine_.Post(Stop{absl::StrCat("the worker stops: ", reason)});
}

}  // namespace tandem::worker
