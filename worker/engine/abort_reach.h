// The AbortReach lets other threads end the group that the engine forms or runs, while the engine is held up in it: by
// peers that do not come, or by a collective that does not end.
//
// The engine says in which group it is; an abort cancels the wait for peers and aborts the channel, at once, and keeps
// its reason, because what the engine sees afterwards is only the echo.
//
// The first part is for any thread, the second for the engine's.
#ifndef TANDEM_WORKER_ENGINE_ABORT_REACH_H_
#define TANDEM_WORKER_ENGINE_ABORT_REACH_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/comm/group_channel.h"
#include "worker/engine/command.h"

namespace tandem::worker {

class AbortReach {
 public:
  // Ends the group that the engine is in, if `command` says so: AbortGroup and AbortEverything always, Stop unless it
  // is ready. A step that runs is finished first; waiting for peers is not.
  void Heed(const Command& command, SteadyTime now);
  // A follower that waits for plans looks at its commands.
  void WakeFollower();

  // For how long the engine has not come out of a group that was aborted.
  std::chrono::milliseconds Overdue(SteadyTime now) const;
  // The group that forms or loads.
  std::optional<GroupRef> Unready() const;

  // ---- of the engine thread, in this order
  void Enter(const GroupRef& group);  // The wait for peers begins.
  const std::atomic<bool>* cancelled() const { return &cancelled_; }
  void Reached(std::shared_ptr<GroupChannel> channel);  // It has ended; an abort goes on to the channel.
  void Ready();
  void Clear();
  // Why somebody ended the group.
  std::optional<std::string> reason() const;

 private:
  void Interrupt(absl::string_view reason, SteadyTime now);  // REQUIRES: mu_ is held.

  mutable std::mutex mu_;
  std::atomic<bool> cancelled_{false};
  std::optional<GroupRef> group_;  // Guarded by mu_, as are:
  std::shared_ptr<GroupChannel> channel_;
  bool ready_ = false;
  std::optional<std::string> reason_;
  SteadyTime aborted_at_{};
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_ABORT_REACH_H_
