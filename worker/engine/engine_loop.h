// The EngineLoop is the one thread that computes: it takes commands from a mailbox and gives the Engine its turns.
//
// In the thread, again and again: the commands that came, then the engine's Advance(). While there is nothing to do the
// thread sleeps; twice a second the engine looks whether its peers live.
//
// Post(), Occupied(), Status() and Held() are for any thread. Options::report is called by the engine thread, and must
// not block.
#ifndef TANDEM_WORKER_ENGINE_ENGINE_LOOP_H_
#define TANDEM_WORKER_ENGINE_ENGINE_LOOP_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "worker/engine/abort_reach.h"
#include "worker/engine/command.h"
#include "worker/engine/engine.h"
#include "worker/engine/report.h"
#include "worker/engine/shard.h"
#include "worker/engine/shard_window.h"

namespace tandem::worker {

class EngineLoop {
 public:
  struct Options {
    ShardServices services;
    Engine::Join join;
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

  std::vector<ShardStatus> Status() const { return window_.Status(); }
  std::vector<HeldRequest> Held(const GroupRef& group) const { return window_.Held(group); }

 private:
  void Run();
  std::optional<Command> TakeCommand(std::chrono::milliseconds patience);
  void HeedAborts();

  const std::function<void()> on_thread_start_;
  const size_t most_queued_;
  AbortReach reach_;
  ShardWindow window_;
  Engine engine_;  // Of the thread.

  mutable std::mutex mu_;
  std::condition_variable posted_;
  std::condition_variable ended_;
  std::deque<Command> mailbox_;  // Guarded by mu_, as are:
  size_t queued_requests_ = 0;
  bool stopped_ = false;

  std::thread thread_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_ENGINE_LOOP_H_
