// One life of the scheduler's process, from its start to its crash: the real core, and the shell's real parts but for
// threads and gRPC: action runner, token router, request streams and store, registry, translation.
//
// What is a twin here: the core's loop, the reactor of Attach (attach_stream.h), and Generate's way in.
#ifndef TANDEM_TESTS_SIM_SIM_SCHEDULER_H_
#define TANDEM_TESTS_SIM_SIM_SCHEDULER_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "scheduler/action_runner.h"
#include "scheduler/core/core.h"
#include "scheduler/event_log.h"
#include "scheduler/intent_keeper.h"
#include "scheduler/model_catalog.h"
#include "scheduler/operations.h"
#include "scheduler/request_store.h"
#include "scheduler/store/store.h"
#include "scheduler/token_router.h"
#include "scheduler/worker_registry.h"
#include "tests/sim/attach_stream.h"
#include "tests/sim/script.h"
#include "tests/sim/sim_call.h"
#include "tests/sim/world.h"

namespace tandem::sim {

class SimScheduler : public std::enable_shared_from_this<SimScheduler> {
 public:
  // What was acknowledged to operators and has not ended; like the disk it outlives the crash.
  using Promises = std::set<core::OperationId>;
  // `disk` and `promises` outlive the crash; `after_step` looks at the world with the core, after each of its steps.
  SimScheduler(World* world, const Setup* setup, const scheduler::ModelCatalog* catalog, uint64_t leader_epoch,
               scheduler::store::Store* disk, Promises* promises, std::function<void(const core::Core&)> after_step);

  void Start();
  void Crash();
  void Pause() { paused_ = true; }
  void Resume();

  std::shared_ptr<AttachStream> Accept(core::Incarnation incarnation, AttachStream::WorkerEnd end);
  // `deadline_us` from now; 0: none.
  void Generate(std::shared_ptr<SimCall> call, const v1::GenerateRequest& request, int64_t deadline_us);
  void Resume(std::shared_ptr<SimCall> call, const v1::ResumeRequest& request);

  // ---- operators, by the device's name. Nothing where the core does not know it.
  void Cordon(const std::string& device, bool cordon);
  void Drain(const std::string& device, int64_t deadline_us, core::OnDeadline on_deadline, bool force);
  void Undrain(const std::string& device);
  // Of models, once it stands on the disk.
  void Operate(core::Event event) { Post(std::move(event)); }

  const core::Core& core() const { return core_; }
  uint64_t leader_epoch() const { return leader_epoch_; }
  size_t living() const { return store_.living(); }

 private:
  void Post(core::Event event);
  // `then` once it is written. In order, and lost with this process until then.
  void Write(scheduler::store::Batch batch, std::function<void()> then = nullptr);
  void CheckPromises();
  void TurnSoon(int64_t delay_us);
  void Turn();
  void Step(const core::Event& event);
  void Judge(const core::Action& action);
  void TurnRouter();
  const core::Device* FindDevice(const std::string& name) const;
  // `what` later, if this process still lives.
  void After(int64_t us, std::function<void()> what);

  World* const world_;
  const Setup* const setup_;
  const scheduler::ModelCatalog* const catalog_;
  const uint64_t leader_epoch_;
  const std::function<void(const core::Core&)> after_step_;
  bool alive_ = true, paused_ = false, turn_due_ = false;
  std::deque<core::Event> mailbox_;
  int64_t wake_at_ = INT64_MAX;
  int64_t unwritten_ = 0;
  int64_t written_at_ = 0;  // when the disk is through with all that it was given

  scheduler::WorkerRegistry registry_;
  scheduler::RequestStore store_;
  scheduler::Reattachment reattachment_;
  scheduler::EventLog events_{leader_epoch_};
  scheduler::store::Store* const disk_;
  Promises* const promises_;
  bool promises_checked_ = false;
  const scheduler::store::Snapshot snapshot_;  // of the disk, when this life began
  scheduler::Operations operations_;
  scheduler::IntentKeeper intents_;
  scheduler::ActionRunner runner_;
  core::Core core_;
  scheduler::TokenRouter router_;

  // By their numbers, not by their addresses: a crash ends them in order.
  std::map<uint64_t, std::shared_ptr<AttachStream>> streams_;
  std::map<uint64_t, std::shared_ptr<SimCall>> calls_;
  uint64_t numbered_ = 0;

  // What the clients were told, per request.
  struct Told {
    int last_words = 0;
    core::Attempt latest;
  };
  std::map<core::RequestId, Told> told_;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SIM_SCHEDULER_H_
