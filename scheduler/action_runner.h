// Carries out what the core asked for, in the order given, on the core's thread. It decides nothing and waits for
// nothing: commands go into the queues of worker streams, words for clients to their request's stream.
#ifndef TANDEM_SCHEDULER_ACTION_RUNNER_H_
#define TANDEM_SCHEDULER_ACTION_RUNNER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "scheduler/core/core.h"
#include "scheduler/event_log.h"
#include "scheduler/intent_keeper.h"
#include "scheduler/model_catalog.h"
#include "scheduler/operations.h"
#include "scheduler/request_log.h"
#include "scheduler/request_metrics.h"
#include "scheduler/request_store.h"
#include "scheduler/worker_registry.h"

namespace tandem::scheduler {

class ActionRunner {
 public:
  struct Parts {
    const ModelCatalog* catalog;
    WorkerRegistry* registry;
    RequestStore* store;
    EventLog* events;
    Operations* operations;
    IntentKeeper* intents;
    RequestMetrics* metrics = nullptr;  // null: nobody counts
    RequestLog* log = nullptr;          // null: nobody writes down what fails
  };
  struct Settings {
    uint32_t step_budget_ms = 200;
    bool prefix_cache = true;
    uint64_t leader_epoch = 0;
  };
  // Takes an event that an action leads to at once: its addressee was gone.
  using Post = std::function<void(core::Event)>;
  // Called between batches when something was told: which models can serve now.
  using OnChange = std::function<void(const core::ClusterState&)>;
  // Called once, when the core waits for no worker of the earlier scheduler any more.
  using OnSettled = std::function<void()>;

  ActionRunner(Parts parts, Settings settings, Post post, OnChange on_change, OnSettled on_settled);

  void Run(core::Instant now, const core::Actions& actions);
  // What the core took for its step.
  void Decided(absl::Duration took);
  // After all events of a batch.
  void EndOfBatch(const core::Core& core);

 private:
  void Do(const core::AdmitWorker& action);
  void Do(const core::RefuseWorker& action);
  void Do(const core::FormGroup& action);
  void Do(const core::LoadModel& action);
  void Do(const core::DissolveGroup& action);
  void Do(const core::AbortGroup& action);
  void Do(const core::MeasureLink& action);
  void Do(const core::DropWorker& action);
  void Do(const core::AssignRequest& action);
  void Do(const core::AbortAttempt& action);
  void Do(const core::ParkWorker& action);
  void Do(const core::NoteQueued& action);
  void Do(const core::FailRequest& action);
  void Do(const core::CompleteRequest& action);
  void Do(const core::ReportDrain& action);
  void Do(const core::Tell& action);
  void Do(const core::KeepDevice& action);
  void Do(const core::ForgetDevice& action);
  void Do(const core::KeepDrain& action);
  void Do(const core::AskDrain& action);

  void Send(core::DeviceId device, v1::AttachResponse command);
  // The core has let the request go; the store keeps its log for a while.
  void LetGo(core::RequestId request);

  const Parts parts_;
  const Settings settings_;
  const Post post_;
  const OnChange on_change_;
  const OnSettled on_settled_;
  core::Instant now_;
  bool settled_ = false;
  bool told_ = false;  // since the last EndOfBatch
  // READY groups' numerics, for Accepted: refreshed when something was told.
  absl::flat_hash_map<uint64_t, std::string> numerics_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ACTION_RUNNER_H_
