// Keeps a set of programs running on this machine, and ends them together.
//
// One thread runs everything: Run() starts the children, passes their output on line by line, starts again what ended
// (restart_policy.h says when) and, once asked to stop, ends them stage by stage: all of the lowest stage are told to
// end and waited for, then the next. While the first stage ends, who is asked to finish what runs may do so, for a
// grace that a second request ends. One that does not end in time is killed. Should this process die, the kernel kills
// the children.
//
// Children speak the protocol of sd_notify(3) (base/notify). One that has said READY=1 and is then silent for too long
// stands still, whatever it holds, and is killed and started again. So is this process watched by systemd, where it is.
#ifndef TANDEM_CLIENT_CTL_SUPERVISOR_H_
#define TANDEM_CLIENT_CTL_SUPERVISOR_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/notify/notifier.h"
#include "base/notify/notify_socket.h"
#include "base/steady_wait.h"
#include "client/ctl/child_process.h"
#include "client/ctl/restart_policy.h"

namespace tandem::client::ctl {

struct ChildSpec {
  std::string label;  // "scheduler", "worker cpu:0"
  std::vector<std::string> argv;
  int stop_stage = 0;      // lower ones end first
  bool essential = false;  // where it can never run, nothing can
  // While the first stage ends it is told by SIGUSR1 to finish what runs; it says when nothing does (kNotifyDrained).
  bool drains = false;
};

struct SupervisorOptions {
  absl::Duration stop_timeout = absl::Seconds(10);  // of each stage
  absl::Duration stop_grace;                        // of the first stage beyond it
  absl::Duration silence = absl::Seconds(10);       // of a child that is READY, and then is killed
  RestartPolicy restart;                            // each child starts with a copy
  // While this is true, a child that can never run ends everything, and so does an essential one that exits; later only
  // an essential one that can never run does.
  std::function<bool()> starting = [] { return false; };
  // One line without a line feed: a child's, with its label, or the supervisor's own with the label "up".
  std::function<void(absl::string_view label, absl::string_view line)> log;
};

class Supervisor {
 public:
  Supervisor(std::vector<ChildSpec> children, SupervisorOptions options);
  ~Supervisor();

  // Returns when all children have ended: OK after RequestStop(), else what could not run. Once, and on a thread that
  // lives as long as the process: the children die with it.
  absl::Status Run();

  // Any thread, and signal handlers; also before Run(). The second time ends the grace.
  void RequestStop();

 private:
  using Steady = std::chrono::steady_clock;  // a clock that is set kills nobody, and keeps nobody from being started

  static constexpr Steady::time_point kNever = Steady::time_point::max();

  struct Child {
    ChildSpec spec;
    RestartPolicy restart;
    std::unique_ptr<ChildProcess> process;  // null: not running
    Steady::time_point started_at;
    Steady::time_point start_at;  // when not running; kNever: never again
    std::string line;             // output since the last line feed
    std::string last_line;
    bool output_open = false;
    bool ready = false;           // and so is watched
    bool drained = false;         // as it said, after it was asked
    Steady::time_point heard_at;  // of the last sign of life
  };

  void Start(Child& child);
  void ReadOutput(Child& child);
  void OnExit(Child& child);
  void GiveUp(Child& child, const std::string& why);
  void ReadMessages();
  void OnMessage(Child& child, const std::string& line);
  // Kills who has been silent for too long, and says that this process is not.
  void Watch();
  // Sends the next stage its signal, or the current one SIGKILL. REQUIRES: stopping.
  void AdvanceStop();
  void BeginStage(int stage);
  // What still runs in the current stage, or has to finish beside it.
  bool StageGoesOn() const;
  void Poll(Steady::time_point until);
  Steady::time_point NextDeadline() const;
  void Log(absl::string_view line) const;

  const SupervisorOptions options_;
  const int wake_fd_;
  std::vector<Child> children_;
  NotifySocket ear_;
  const Notifier systemd_;
  Steady::time_point watched_at_;  // when Watch() last looked
  bool told_ready_ = false;
  uint64_t stop_requests_ = 0;
  bool stopping_ = false;
  bool hurried_ = false;           // the grace was ended
  std::optional<int> stop_stage_;  // the stage that has been told to end
  Steady::time_point kill_at_ = kNever;
  absl::Status outcome_;
};

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_SUPERVISOR_H_
