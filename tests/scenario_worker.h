// A worker as the core sees one: it answers commands with the reports that an honest worker would send. It has no clock
// and no thread; whoever owns it decides when, and whether, an answer is delivered. Used by the scenarios and by the
// random test.
#ifndef TANDEM_TESTS_SCENARIO_WORKER_H_
#define TANDEM_TESTS_SCENARIO_WORKER_H_

#include <deque>
#include <map>
#include <string>
#include <utility>

#include "scheduler/core/action.h"
#include "scheduler/core/event.h"
#include "scheduler/core/types.h"

namespace tandem::core {

class ScenarioWorker {
 public:
  ScenarioWorker(DeviceSpec spec, Incarnation incarnation);

  // What it says when its stream opens to the scheduler of this leader epoch. All answers that were under way are lost
  // with the old stream. Once admitted, it tells what an earlier leader assigned.
  WorkerAttached Attach(uint64_t leader_epoch = 1);
  // The process dies and is started again: another incarnation, nothing held.
  void Restart(Incarnation incarnation);
  void CloseStream() { attached_ = false, answers_.clear(); }

  // A command for this worker, from an action that names it. `models` gives a name and sizes for LoadModel.
  void Obey(const Action& action, const std::deque<ModelSpec>& models);
  // An answer that is due, in order; REQUIRES: HasAnswer().
  bool HasAnswer() const { return attached_ && !answers_.empty(); }
  Event TakeAnswer();
  // Reports of its own.
  void Report(Event event) { answers_.push_back(std::move(event)); }
  // Each one says that its shards went on since the last, and rank 0 that it made steps if it has work.
  HeartbeatReceived Heartbeat();

  // A request that it computes. `started`: RequestStarted was reported.
  struct Work {
    Attempt attempt;
    GroupId group;
    Tokens prompt, most;
    bool started = false;
  };
  std::map<RequestId, Work>& work() { return work_; }
  void Start(RequestId id, bool computed = true);
  void End(RequestId id, EndedHow how, Tokens output);
  // It leaves the group for a reason of its own.
  void FailGroup(GroupId group, GroupFailure failure, const std::string& message);

  const DeviceSpec& spec() const { return spec_; }
  DeviceId device() const { return device_; }
  Incarnation incarnation() const { return incarnation_; }
  bool attached() const { return attached_; }
  const std::map<GroupId, HeldShard>& held() const { return held_; }
  void set_free_blocks(int32_t blocks) { free_blocks_ = blocks; }
  // What it measures to another device of its host, with it as the first of the two.
  void set_link(DeviceId to, int64_t bytes_per_second) { links_[to] = bytes_per_second; }
  void set_numerics(std::string numerics) { numerics_ = std::move(numerics); }
  // From now on its heartbeats say that no step ended, or that nothing moved at all, be it true or not.
  struct Standstill {
    bool steps = false, progress = false, busy = false;
  };
  void set_standstill(Standstill standstill) { standstill_ = standstill; }
  void set_step(int64_t us, int64_t tokens) { step_us_ = us, step_tokens_ = tokens; }
  void set_memory_free(Bytes bytes) { spec_.memory_free = bytes; }

 private:
  void Form(const FormGroup& action);
  void Load(const LoadModel& action, const ModelSpec& model);
  // Another process of its own, which has begun to attach.
  void Park();
  void Leave(GroupId group, GroupEpoch epoch);
  void TellHeld();

  DeviceSpec spec_;
  Incarnation incarnation_;
  DeviceId device_;
  bool attached_ = false;
  bool parked_ = false;
  uint64_t leader_epoch_ = 1;
  std::map<GroupId, HeldShard> held_;
  std::map<RequestId, Work> work_;
  std::deque<Event> answers_;
  std::string numerics_ = "sim";
  std::map<DeviceId, int64_t> links_;
  uint64_t progress_ = 0, steps_ = 0;
  Standstill standstill_;
  int64_t step_us_ = 20000, step_tokens_ = 1;
  int32_t free_blocks_ = -1;  // -1: as many as there are
};

}  // namespace tandem::core

#endif  // TANDEM_TESTS_SCENARIO_WORKER_H_
