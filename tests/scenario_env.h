// The world of a scenario: one core, its workers, a clock that only `tick` moves. Run() takes one command and returns
// the lines that it caused; after every step CheckInvariants must hold.
//
// Output words: `send` an action of the core, `recv` an answer of a worker that `settle` delivered, `state` a change
// that the core tells, `note` something counted and otherwise ignored. Devices are w0, w1.. as the scenario names them,
// groups g1, g2.. (g2.1 under leader epoch 2), requests r1, r2...
//
//   start [leader=1] [expected=N] [waiting_room=N] [waiting_tokens=N] [engine_queue=N] [overcommit=X] [remembered=N]
//         [migrations=N] [probe=off|once|periodic] [tenant_percent=50] [overtaken=32] [quarantine=3]
//         [move_gain=150, permille]
//   rule CODE ACTION [cool_off=60s] [times=3] [because=..]  what a report of a device's health leads to; before start
//   model NAME tp=2|auto weights=1GiB kv=64KiB [context=1024] [seqs=8] [replicas=1|1..4] [priority=0] [alias=A]
//   worker w0[,w1] host=h mem=8GiB [free=..] [budget=..] [numa=0] [kind=cuda gpu="NVIDIA L4"]
//          [numerics=sim]                               a new process attaches
//   settle [quiet]                                        deliver the workers' answers until none is left
//   request r1 model=M prompt=N [max=N] [deadline=10s] [priority=N] [tenant=T] [prefix=7,8,9, its landmarks]
//   started r1 [output=N, known]     preempted r1     finished r1 tokens=N [how=stopped]     stopped r1
//   tokens=N cancel r1 [cause=client-left] tick 30s                                              attached workers send
//   heartbeats unless frozen freeze|thaw w0    detach w0 [gone]    return w0 (same process)    restart w0 (a new one)
//   impostor w0 fail w0 g1 REASON [message=".."]      free-blocks w0 N      memory-free w0 1GiB      link w0 w1 8000
//   (MB/s to be measured) event LINE                                            any event as format.h writes it
//   step w0 20ms [tokens=8] (what its steps take)   stand-still w0 [steps] [progress] [busy]   health w0 CODE
//   [message=..] [lasting] [cleared] cordon|uncordon|undrain w0 [reason=..]    drain w0[,w1]|g1 op=1 [deadline=60s]
//   [on=migrate|wait|abort] [force] [reason=..] leader epoch=2 [expected=N] [recall]                  a new scheduler;
//   the workers keep what they hold; with
//                                                         `recall` it is told what the store kept of the one before
//   explain r1|g1|NAME    show requests|groups|devices|models|links|kept|homes (full groups that are waited for)
//   reload                                                the core goes on from a dump of itself, as a replay does
#ifndef TANDEM_TESTS_SCENARIO_ENV_H_
#define TANDEM_TESTS_SCENARIO_ENV_H_

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "scheduler/core/core.h"
#include "tests/kept.h"
#include "tests/scenario_worker.h"

namespace tandem::core {

class ScenarioEnv {
 public:
  ScenarioEnv();
  // The lines that the command caused, or "ok".
  std::string Run(const std::string& command);

 private:
  // "verb pos.. key=value.. flag.."
  struct Command {
    std::string verb;
    std::vector<std::string> words;
    std::map<std::string, std::string> keys;
    std::string Key(const std::string& name, const std::string& otherwise) const;
    bool Has(const std::string& word) const;
  };
  static Command Split(const std::string& line);

  void Start(const Command& command);
  void Deploy(const Command& command);
  void Scale(const Command& command);
  ModelId ModelNamed(const std::string& name) const;
  static ModelSpec SpecFrom(const Command& command);
  void AddModel(const Command& command);
  void AddWorkers(const Command& command);
  void Arrive(const Command& command);
  void RequestVerb(const Command& command);
  void WorkerVerb(const Command& command);
  void Drain(const Command& command);
  void Settle(bool quiet);
  void Tick(Duration duration);
  void Explain(const std::string& subject);
  void Show(const std::string& what);

  void Step(const Event& event);
  void Say(const std::string& line);
  std::string Readable(std::string line) const;  // ids as the scenario names them
  ScenarioWorker& Worker(const std::string& name);
  ScenarioWorker* WorkerOf(RequestId id);
  DeviceId Device(const std::string& name);
  GroupId Group(const std::string& name) const;
  static RequestId RequestNamed(const std::string& name);

  CoreOptions options_;
  std::unique_ptr<Core> core_;
  Instant now_ = {1000000};
  std::deque<ModelSpec> models_;   // by ModelId
  std::set<uint32_t> undeployed_;  // of them
  struct Named {
    std::string name;
    std::unique_ptr<ScenarioWorker> worker;
    bool frozen = false;
    int lives = 1;
  };
  std::vector<Named> workers_;
  Kept kept_;
  bool quiet_ = false;
  uint64_t last_asked_ = 900;  // operations that the core asked for
  std::string output_;
};

}  // namespace tandem::core

#endif  // TANDEM_TESTS_SCENARIO_ENV_H_
