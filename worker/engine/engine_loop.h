// The EngineLoop is the one thread that computes (DESIGN 5): it takes commands, forms groups, and runs their steps.
//
// In the thread, again and again: take the commands that came; then let the shard advance: rank 0 plans, runs and
// updates, the others wait in the plan ring. While there is nothing to do the thread sleeps; twice a second it looks
// whether its peers live.
//
// Today a device has at most one group, so there is at most one shard; a second FormGroup is answered BUSY. A group
// that forms anew under a higher epoch takes the place of the old one.
//
// Every way in is answered: a rank that was told to form, load, dissolve or abort reports formed, loaded, left or
// failed. An engine that fails a group says why, aborts the channel, so that the peers leave too, and is ready for the
// next one.
//
// Post(), Occupied(), Status() and Held() are for any thread. Everything else belongs to the engine thread, which also
// calls Options::report; that call must not block.
#ifndef TANDEM_WORKER_ENGINE_ENGINE_LOOP_H_
#define TANDEM_WORKER_ENGINE_ENGINE_LOOP_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/comm/group_channel.h"
#include "worker/engine/command.h"
#include "worker/engine/leader.h"
#include "worker/engine/report.h"
#include "worker/engine/shard.h"

namespace tandem::worker {

class EngineLoop {
 public:
  struct Options {
    ShardServices services;
    // Blocks until the group is there. Returns soon after `cancelled` is set.
    std::function<absl::StatusOr<std::unique_ptr<GroupChannel>>(const GroupIdentity&,
                                                                const std::atomic<bool>* cancelled)>
        join;
    std::function<void(Report)> report;
    std::function<void()> on_thread_start = [] {};  // pins the thread, for instance
    size_t most_queued = 1024;                      // requests in the mailbox; control commands are few and always fit
  };

  explicit EngineLoop(Options options);
  ~EngineLoop();  // Stops and waits.

  // False if the mailbox is full, which only an AssignRequest can meet. An abort also reaches a step that is stuck in a
  // collective, at once.
  bool Post(Command command);

  // Whether the thread ended, after Stop, within `timeout`.
  bool WaitUntilStopped(std::chrono::milliseconds timeout);

  // For how long the engine has not come out of a group that it was told to abort. A device or a disk that does not
  // answer can hold it for ever; then only the end of the process frees what it holds.
  std::chrono::milliseconds AbortOverdue() const;

  // What the engine does instead of nothing, in words; empty while it is idle, with or without a group.
  std::string Occupied() const;

  std::vector<ShardStatus> Status() const;
  std::vector<HeldRequest> Held(const GroupRef& group) const;

 private:
  void Run();
  std::optional<Command> TakeCommand(std::chrono::milliseconds patience);
  std::chrono::milliseconds Patience() const;
  void Advance();

  void Handle(FormGroup& command);
  void Handle(LoadModel& command);
  void Handle(DissolveGroup& command);
  void Handle(AbortGroup& command);
  void Handle(AssignRequest& command);
  void Handle(AbortAttempt& command);
  void Handle(AcknowledgeEnd& command);
  void Handle(ReplayTokens& command);
  void Handle(ReplayEverything& command);
  void Handle(ObeyLeader& command);
  void Handle(AbortEverything& command);
  void Handle(Stop& command);

  std::optional<GroupFailure> CheckFormable(const GroupIdentity& identity);
  Shard* Find(const GroupRef& group) const;
  Leader* FindLeader(const GroupRef& group) const;
  void EndUnknown(const GroupRef& group, const AttemptId& id, Ended::How how);

  void Fail(GroupFailure failure);  // The shard.
  void Leave();                     // In order.
  void Drop();
  void PublishStatus();

  // What aborts reach from other threads. Guarded by mu_.
  struct Reach {
    std::optional<GroupRef> group;  // Forming or formed.
    std::shared_ptr<GroupChannel> channel;
    bool ready = false;
    std::optional<std::string> abort_reason;  // Somebody wants it to end,
    SteadyTime abort_at{};                    // since then.
  };
  void Interrupt(absl::string_view reason);  // REQUIRES: mu_ is held.

  const Options options_;

  mutable std::mutex mu_;
  std::condition_variable posted_;
  std::condition_variable ended_;
  std::deque<Command> mailbox_;  // Guarded by mu_, as are:
  size_t queued_requests_ = 0;
  Reach reach_;
  bool stopped_ = false;
  std::atomic<bool> cancel_join_{false};

  // What other threads may see of the shard. Guarded by status_mu_.
  struct Visible {
    ShardStatus status;
    const std::atomic<uint64_t>* progress = nullptr;
    const std::atomic<bool>* busy = nullptr;
    std::shared_ptr<RequestLog> log;
  };
  mutable std::mutex status_mu_;
  std::optional<Visible> visible_;

  // Of the engine thread.
  std::unique_ptr<Shard> shard_;
  std::unique_ptr<Leader> leader_;         // Of shard_, if it is ready and rank 0.
  std::map<uint64_t, GroupEpoch> epochs_;  // The highest seen, of the last kMostEpochs groups.
  uint64_t leader_epoch_ = 0;
  SteadyTime::duration retention_ = std::chrono::seconds(60);
  SteadyTime tidied_{};
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_ENGINE_LOOP_H_
