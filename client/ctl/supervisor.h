// Keeps a set of programs running on this machine, and ends them together.
//
// One thread runs everything: Run() starts the children, passes their output on line by line, starts again what ended
// (restart_policy.h says when) and, once asked to stop, ends them stage by stage: all of the lowest stage are told to
// end and waited for, then the next. One that does not end in time is killed. Should this process die, the kernel kills
// the children.
#ifndef TANDEM_CLIENT_CTL_SUPERVISOR_H_
#define TANDEM_CLIENT_CTL_SUPERVISOR_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/ctl/child_process.h"
#include "client/ctl/restart_policy.h"

namespace tandem::client::ctl {

struct ChildSpec {
  std::string label;  // "scheduler", "worker cpu:0"
  std::vector<std::string> argv;
  int stop_stage = 0;      // lower ones end first
  bool essential = false;  // where it can never run, nothing can
};

struct SupervisorOptions {
  absl::Duration stop_timeout = absl::Seconds(10);  // of each stage
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

  // Any thread, and signal handlers; also before Run().
  void RequestStop();

 private:
  struct Child {
    ChildSpec spec;
    RestartPolicy restart;
    std::unique_ptr<ChildProcess> process;  // null: not running
    absl::Time started_at = absl::InfinitePast();
    absl::Time start_at = absl::InfinitePast();  // when not running; InfiniteFuture: never again
    std::string line;                            // output since the last line feed
    std::string last_line;
    bool output_open = false;
  };

  void Start(Child& child);
  void ReadOutput(Child& child);
  void OnExit(Child& child);
  void GiveUp(Child& child, const std::string& why);
  // Sends the next stage its signal, or the current one SIGKILL. REQUIRES: stopping.
  void AdvanceStop();
  bool AnyRunning(int stage) const;
  void Poll(absl::Time until);
  absl::Time NextDeadline() const;
  void Log(absl::string_view line) const;

  const SupervisorOptions options_;
  const int wake_fd_;
  std::vector<Child> children_;
  bool stopping_ = false;
  std::optional<int> stop_stage_;  // the stage that has been told to end
  absl::Time kill_at_ = absl::InfiniteFuture();
  absl::Status outcome_;
};

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_SUPERVISOR_H_
