#include "worker/engine/engine_loop.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr int kCommandsPerTurn = 256;  // So that a flood of commands does not stop the streams.

SteadyTime Now() { return std::chrono::steady_clock::now(); }

}  // namespace

EngineLoop::EngineLoop(Options options)
    : on_thread_start_(std::move(options.on_thread_start)),
      most_queued_(options.most_queued),
      engine_({.services = std::move(options.services),
               .join = std::move(options.join),
               .report = std::move(options.report),
               .clock = Now,
               .on_entering = [this] { HeedAborts(); }},
              &reach_, &window_) {
  thread_ = std::thread([this] {
    on_thread_start_();
    Run();
    std::lock_guard lock(mu_);
    stopped_ = true;
    ended_.notify_all();
  });
}

EngineLoop::~EngineLoop() {
  Post(Stop{"the worker ends"});
  thread_.join();
}

bool EngineLoop::WaitUntilStopped(milliseconds timeout) {
  std::unique_lock lock(mu_);
  return ended_.wait_for(lock, timeout, [this] { return stopped_; });
}

// ---- other threads --------------------------------------------------------------------------------------------------

bool EngineLoop::Post(Command command) {
  std::lock_guard lock(mu_);
  if (std::holds_alternative<AssignRequest>(command)) {
    if (queued_requests_ >= most_queued_) return false;
    ++queued_requests_;
  }
  reach_.Heed(command, Now());
  mailbox_.push_back(std::move(command));
  posted_.notify_one();
  reach_.WakeFollower();
  return true;
}

milliseconds EngineLoop::AbortOverdue() const { return reach_.Overdue(Now()); }

std::string EngineLoop::Occupied() const {
  if (std::optional<GroupRef> group = reach_.Unready()) return absl::StrCat(group->ToString(), " forms or loads here");
  {
    std::lock_guard lock(mu_);
    if (queued_requests_ > 0) return "a request came";
  }
  for (const ShardStatus& status : Status()) {
    const uint32_t requests = status.running + status.waiting;
    if (requests > 0 || status.busy) return absl::StrCat(status.group.ToString(), " computes here");
  }
  return "";
}

// ---- the engine thread ----------------------------------------------------------------------------------------------

void EngineLoop::Run() {
  while (!engine_.stopped()) {
    // One by one: an abort must find the order it ends in the mailbox or under way, not in between.
    milliseconds patience = engine_.Patience();
    for (int taken = 0; taken < kCommandsPerTurn && !engine_.stopped(); ++taken) {
      std::optional<Command> command = TakeCommand(patience);
      if (!command) break;
      engine_.Handle(*std::move(command));
      patience = milliseconds(0);
    }
    engine_.Advance();
  }
}

std::optional<Command> EngineLoop::TakeCommand(milliseconds patience) {
  std::unique_lock lock(mu_);
  if (patience.count() > 0) posted_.wait_for(lock, patience, [this] { return !mailbox_.empty(); });
  if (mailbox_.empty()) return std::nullopt;
  Command command = std::move(mailbox_.front());
  mailbox_.pop_front();
  if (std::holds_alternative<AssignRequest>(command)) --queued_requests_;
  return command;
}

// A group is about to form: those that came in the meantime count for it, too.
void EngineLoop::HeedAborts() {
  std::lock_guard lock(mu_);
  for (const Command& later : mailbox_) reach_.Heed(later, Now());
}

}  // namespace tandem::worker
