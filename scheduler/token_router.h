// Brings what rank 0 of every group says about its requests to the clients that wait for it, and to the core the few
// words that concern it: found, started, preempted, ended, stopped. Tokens never enter the core.
//
// A request that begins with Held is one of an earlier scheduler: it enters the store, its tokens follow, and whoever
// waits for it (Reattachment) reads it from where it was. What cannot be served on is aborted where it runs.
//
// Route runs on the thread of the group's own stream; two groups meet only in the store's split table. A clock of its
// own sends what was gathered (chunk_interval_ms), tells silent streams that they live, and drops what nobody came back
// for.
#ifndef TANDEM_SCHEDULER_TOKEN_ROUTER_H_
#define TANDEM_SCHEDULER_TOKEN_ROUTER_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/steady_wait.h"
#include "scheduler/core/event.h"
#include "scheduler/model_catalog.h"
#include "scheduler/reattachment.h"
#include "scheduler/request_metrics.h"
#include "scheduler/request_store.h"
#include "scheduler/slow_clients.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

class TokenRouter {
 public:
  struct Times {
    core::Duration progress_every = core::Seconds(14);  // promised are 15
    core::Duration sweep_every = core::Seconds(1);
    // A request with an idempotency key outlives its last client by this, so that a broken stream can come back.
    core::Duration detach_grace = core::Seconds(5);
    // A request that was found after a start waits this long for its client, with or without a key.
    core::Duration reattach_grace = core::Seconds(10);
    // Whoever takes no message for so long loses its call; 0: never.
    core::Duration client_stall = core::Seconds(60);
  };
  // Takes an event that must not be lost; their number is bounded by the attempts that the core itself gave out.
  using Post = std::function<void(core::Event)>;
  // Asked from time to time to call SetQueuePosition on those that wait.
  using AskPositions = std::function<void(std::vector<std::shared_ptr<RequestStream>>)>;
  // Takes a command to a rank 0: the acknowledgement of ends, after which it may forget those requests' logs when the
  // retention is over, or the word to stop what cannot be served on.
  using Send = std::function<void(core::DeviceId, v1::AttachResponse)>;
  // Under which id the core knows this worker process.
  using DeviceOf = std::function<std::optional<core::DeviceId>(core::Incarnation)>;

  struct Doors {
    Post post;
    AskPositions ask_positions;
    Send send;
    DeviceOf device_of;
    RequestMetrics* metrics = nullptr;  // counts requests that are found; null: nobody does
  };

  TokenRouter(const ModelCatalog* catalog, RequestStore* store, Reattachment* reattachment, const Times& times,
              Doors doors);
  ~TokenRouter();

  // The clock's thread.
  void Start();
  void Stop();
  // What that thread does when it wakes: rings the alarms that are due, and sweeps from time to time. Returns when the
  // next sweep is due. Whoever did not call Start() may call it instead.
  core::Instant Turn(core::Instant now);

  void Route(const v1::TokensRequest& message);
  // A client of `stream` is gone, by whatever way. The last one to go cancels the request.
  void ClientLeft(const std::shared_ptr<RequestStream>& stream);
  // Calls that read a stream are watched here; the sweep looks at them.
  SlowClients& slow_clients() { return slow_clients_; }

  uint64_t stale_updates() const { return stale_updates_.load(std::memory_order_relaxed); }

 private:
  struct Alarm {
    enum Kind { kGathered, kNobodyCameBack, kReattachOver };
    core::Instant due;
    Kind kind;
    std::weak_ptr<RequestStream> stream;
    bool operator<(const Alarm& other) const { return due > other.due; }  // std::priority_queue: the earliest on top
  };

  // Takes a request of an earlier scheduler in, or up again under a later attempt.
  void TakeUp(const v1::TokensRequest& message, const v1::RequestUpdate& update, core::RequestId id, core::Instant now,
              std::vector<core::Event>* news);
  // An engine shall not go on with what it holds.
  void TurnAway(const v1::TokensRequest& message, const v1::RequestUpdate& update, const std::string& why);
  void RouteEnded(const v1::RequestUpdate& update, const std::shared_ptr<RequestStream>& stream, core::Instant now);
  // Had ended before this scheduler began: all that can be read of it is here, or it is not to be read.
  void Conclude(const std::shared_ptr<RequestStream>& stream, core::Instant now);
  // Gathers: the worker keeps a log for its retention anyway, so a second more is nothing, and a message for every end
  // would stand between the client and its last words.
  void GatherAcknowledgement(const RequestStream& stream, const v1::AttemptKey& key);
  void SendAcknowledgements();
  void ArmGather(const std::shared_ptr<RequestStream>& stream);
  void SetAlarm(Alarm alarm);
  // Where nobody reads it.
  void Cancel(const std::shared_ptr<RequestStream>& stream);
  void Ring(const Alarm& alarm, core::Instant now);
  void Sweep(core::Instant now);
  void RunClock();

  const ModelCatalog* const catalog_;
  RequestStore* const store_;
  Reattachment* const reattachment_;
  const Times times_;
  const Doors doors_;
  std::atomic<uint64_t> stale_updates_{0};
  SlowClients slow_clients_;

  absl::Mutex mu_;
  SteadyCondVar changed_;
  std::priority_queue<Alarm> alarms_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread clock_;
  core::Instant next_sweep_;  // of the clock's thread, as is:
  int sweeps_ = 0;

  absl::Mutex acks_mu_;
  std::map<core::DeviceId, v1::AttachResponse> acks_ ABSL_GUARDED_BY(acks_mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_TOKEN_ROUTER_H_
