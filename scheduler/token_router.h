// Brings what rank 0 of every group says about its requests to the clients that wait for it, and to the core the few
// words that concern it: started, preempted, ended, stopped. Tokens never enter the core.
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
#include <queue>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/event.h"
#include "scheduler/request_store.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

class TokenRouter {
 public:
  struct Times {
    core::Duration progress_every = core::Seconds(14);  // promised are 15
    core::Duration sweep_every = core::Seconds(1);
    // A request with an idempotency key outlives its last client by this, so that a broken stream can come back.
    core::Duration detach_grace = core::Seconds(5);
  };
  // Takes an event that must not be lost; their number is bounded by the attempts that the core itself gave out.
  using Post = std::function<void(core::Event)>;
  // Asked from time to time to call SetQueuePosition on those that wait.
  using AskPositions = std::function<void(std::vector<std::shared_ptr<RequestStream>>)>;
  // Takes the acknowledgement of ends to a rank 0, which then may forget those requests' logs after the retention.
  using Acknowledge = std::function<void(core::DeviceId, v1::AttachResponse)>;

  struct Doors {
    Post post;
    AskPositions ask_positions;
    Acknowledge acknowledge;
  };

  TokenRouter(RequestStore* store, const Times& times, Doors doors);
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

  uint64_t stale_updates() const { return stale_updates_.load(std::memory_order_relaxed); }

 private:
  struct Alarm {
    enum Kind { kGathered, kNobodyCameBack };
    core::Instant due;
    Kind kind;
    std::weak_ptr<RequestStream> stream;
    bool operator<(const Alarm& other) const { return due > other.due; }  // std::priority_queue: the earliest on top
  };

  // Gathers: the worker keeps a log for its retention anyway, so a second more is nothing, and a message for every end
  // would stand between the client and its last words.
  void GatherAcknowledgement(const RequestStream& stream, const v1::AttemptKey& key);
  void SendAcknowledgements();
  void ArmGather(const std::shared_ptr<RequestStream>& stream);
  void SetAlarm(Alarm alarm);
  void Cancel(const RequestStream& stream);
  void Ring(const Alarm& alarm, core::Instant now);
  void Sweep(core::Instant now);
  void RunClock();

  RequestStore* const store_;
  const Times times_;
  const Doors doors_;
  std::atomic<uint64_t> stale_updates_{0};

  absl::Mutex mu_;
  absl::CondVar changed_;
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
