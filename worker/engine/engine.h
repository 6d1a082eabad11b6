// The Engine computes on one device: it forms groups, and runs their steps (DESIGN 5). It has neither thread nor clock
// of its own; EngineLoop gives it both, and the simulator another of each.
//
// The owner calls, again and again: Handle() for the commands that came; then Advance(): rank 0 plans, runs and
// updates, the others wait for a plan. Both may block: in Options::join, and in the group's channel.
//
// It has at most one shard; a second FormGroup is answered BUSY. DeviceEngines has an engine for each group of a
// device. A group that forms anew under a higher epoch takes the place of the old one.
//
// Every way in is answered: a rank that was told to form, load, dissolve or abort reports formed, loaded, left or
// failed. An engine that fails a group says why, aborts the channel, so that the peers leave too, and is ready for the
// next one.
//
// Belongs to one thread, which also calls Options::report; that call must not block. Others use AbortReach and
// ShardWindow.
#ifndef TANDEM_WORKER_ENGINE_ENGINE_H_
#define TANDEM_WORKER_ENGINE_ENGINE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "worker/comm/group_channel.h"
#include "worker/engine/abort_reach.h"
#include "worker/engine/command.h"
#include "worker/engine/leader.h"
#include "worker/engine/report.h"
#include "worker/engine/shard.h"
#include "worker/engine/shard_window.h"

namespace tandem::worker {

class Engine {
 public:
  // Blocks until the group is there. Returns soon after `cancelled` is set.
  using Join = std::function<absl::StatusOr<std::unique_ptr<GroupChannel>>(const GroupIdentity&,
                                                                           const std::atomic<bool>* cancelled)>;

  struct Options {
    ShardServices services;
    Join join;
    std::function<void(Report)> report;
    std::function<SteadyTime()> clock;
    // Called when the reach of aborts has begun, before the wait for peers: an abort that came earlier could not know
    // that its group was about to form.
    std::function<void()> on_entering = [] {};
  };

  // `reach` and `window` outlive the engine.
  Engine(Options options, AbortReach* reach, ShardWindow* window);

  void Handle(Command command);
  void Advance();

  // How long the owner may wait for a command before it calls Advance() again. A follower waits in Advance() itself.
  std::chrono::milliseconds Patience() const;

  bool stopped() const { return stopped_; }

 private:
  void On(FormGroup& command);
  void On(LoadModel& command);
  void On(DissolveGroup& command);
  void On(AbortGroup& command);
  void On(AssignRequest& command);
  void On(AbortAttempt& command);
  void On(AcknowledgeEnd& command);
  void On(ReplayEverything& command);
  void On(ObeyLeader& command);
  void On(AbortEverything& command);
  void On(Stop& command);

  std::optional<GroupFailure> CheckFormable(const GroupIdentity& identity);
  Shard* Find(const GroupRef& group) const;
  Leader* FindLeader(const GroupRef& group) const;
  void EndUntaken(const GroupRef& group, const AttemptId& id, Ended::How how, std::string why);

  void Tell(Report report);
  void Fail(GroupFailure failure);  // The shard.
  void Leave();                     // In order.
  void Drop();

  const Options options_;
  AbortReach* const reach_;
  ShardWindow* const window_;

  std::unique_ptr<Shard> shard_;
  std::unique_ptr<Leader> leader_;         // Of shard_, if it is ready and rank 0.
  std::map<uint64_t, GroupEpoch> epochs_;  // The highest seen, of the last kMostEpochs groups.
  uint64_t leader_epoch_ = 0;
  uint64_t line_ = 0;  // Of the last ReplayEverything.
  SteadyTime::duration retention_ = std::chrono::seconds(60);
  SteadyTime tidied_{};
  bool stopped_ = false;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_ENGINE_H_
