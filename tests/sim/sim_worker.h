// A device and the worker process on it: a real Engine in a simulated process, and a twin of SchedulerLink, which
// dials, says what the worker holds, beats, replays, and gives up its groups when no scheduler comes.
//
// The SimWorker stands for the place: processes in it die and are started again by a supervisor that never tires, each
// with a new incarnation and nothing held.
#ifndef TANDEM_TESTS_SIM_SIM_WORKER_H_
#define TANDEM_TESTS_SIM_SIM_WORKER_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/core/types.h"
#include "tests/sim/attach_stream.h"
#include "tests/sim/process.h"
#include "tests/sim/sim_group.h"
#include "tests/sim/world.h"
#include "worker/engine/engine.h"

namespace tandem::sim {

// What a worker is told of the cluster, and what it may do to others.
struct WorkerSurroundings {
  World* world;
  MeetingPlace* meetings;
  const std::vector<core::ModelSpec>* models;
  // Opens a stream to the scheduler; null while there is none.
  std::function<std::shared_ptr<AttachStream>(core::Incarnation, AttachStream::WorkerEnd)> dial;
  int64_t abort_overdue_us = 10 * kSecond;
};

class SimWorker : public std::enable_shared_from_this<SimWorker> {
 public:
  struct Place {
    std::string node;
    uint32_t index = 0;
    int64_t memory_bytes = 0;
    int64_t step_us = 0;       // of any step
    int64_t per_token_us = 0;  // besides
    int64_t load_us = 0;
  };
  SimWorker(Place place, WorkerSurroundings surroundings);
  ~SimWorker();

  // ---- what happens to it
  void Start();
  void Crash(int64_t down_us);
  void StopInOrder(int64_t down_us);  // as by SIGTERM
  void Freeze();
  void Thaw();
  void CutStream();
  void CutTokens();
  void Partition(bool up, bool down);
  void Heal();
  void FailNextStep() { fail_next_step_ = true; }
  void SetSlow(int64_t factor) { slow_ = factor; }
  // No step ends for so long.
  void Stick(int64_t us) { stuck_until_ = world_->now() + us; }
  // And its heartbeats say that it has nothing to do, or that it gets on.
  void Lie(int64_t us, bool busy);
  void Unstick() { stuck_until_ = lies_until_ = 0; }

  // ---- what can be seen of it
  const Place& place() const { return place_; }
  std::string name() const;
  bool alive() const { return life_ != nullptr; }
  bool frozen() const { return alive() && life_->process->frozen(); }
  core::Incarnation incarnation() const;
  std::vector<worker::ShardStatus> Shards() const;
  std::vector<worker::HeldRequest> Held(const worker::GroupRef& group) const;
  uint64_t obeys() const { return alive() ? life_->highest_leader : 0; }

 private:
  // One process, from its start to its death.
  struct Life {
    core::Incarnation incarnation;
    std::shared_ptr<Process> process;
    worker::AbortReach reach;
    worker::ShardWindow window;
    std::unique_ptr<worker::Engine> engine;
    std::deque<worker::Command> mailbox;
    int64_t used_bytes = 0;

    // The link.
    std::shared_ptr<AttachStream> stream;
    uint64_t line = 0;  // steps of earlier ones come again in a replay
    bool welcomed = false, replay_wanted = false, orphaned = false, leaving = false;
    uint64_t highest_leader = 0;
    int64_t heartbeat_us = 500 * kMs, orphan_grace_us = 60 * kSecond;
    int64_t lost_at = 0;  // 0: is not
    int64_t wait_us = 100 * kMs;
    uint64_t beats = 0;
    std::vector<std::function<void()>> while_frozen;
  };
  using Alive = std::shared_ptr<Life>;

  void Run(Life& life);
  void Post(Life& life, worker::Command command);
  void Report(Life& life, worker::Report report);
  absl::StatusOr<std::unique_ptr<worker::Executor>> Load(Life& life, const worker::LoadSpec& spec,
                                                         worker::Communicator* communicator);
  absl::Status SpendStep(Life& life, int64_t tokens);

  void Dial(const Alive& life);
  void DialAgain(const Alive& life);
  v1::Hello MakeHello(Life& life) const;
  void OnCommand(const Alive& life, const AttachStream* from, const v1::AttachResponse& message);
  void OnOver(const Alive& life, const AttachStream* from, const absl::Status& why);
  void OnMeasure(const Alive& life, const v1::MeasureLink& measure);
  void Beat(const Alive& life, const std::shared_ptr<AttachStream>& on);
  void LookAfterEngine(const Alive& life);
  // Lets a frozen process do it later.
  bool Later(Life& life, std::function<void()> what);
  // `what` after a while, if the process still lives.
  void After(const Alive& life, int64_t us, std::function<void(const Alive&)> what);
  void End(int64_t down_us);

  const Place place_;
  const WorkerSurroundings around_;
  World* const world_;
  Alive life_;
  uint64_t lives_ = 0;
  bool up_blocked_ = false, down_blocked_ = false;
  bool fail_next_step_ = false;
  bool parked_ = false;  // nothing was held since a drain
  int64_t slow_ = 1;
  int64_t stuck_until_ = 0, lies_until_ = 0;
  bool claims_busy_ = false;
  uint64_t claimed_ = 0;  // progress
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SIM_WORKER_H_
