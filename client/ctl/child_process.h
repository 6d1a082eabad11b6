// One child of the supervisor: started with its output on a pipe, watched through a pidfd.
//
// It runs in a process group of its own, so that Ctrl-C at the terminal reaches the supervisor alone and the order of
// stopping is kept. The kernel kills it when the thread that started it ends, however that comes about; so only a
// thread that lives as long as the supervisor may start one.
#ifndef TANDEM_CLIENT_CTL_CHILD_PROCESS_H_
#define TANDEM_CLIENT_CTL_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::client::ctl {

// How it ended: by an exit code or by a signal.
struct ExitStatus {
  std::optional<int> code;
  int signal = 0;
  std::string ToString() const;  // "exited with code 1", "was killed by signal 9 (Killed)"
};

class ChildProcess {
 public:
  // `argv[0]` is the program's path. Standard input is empty. Each of `variables` ("NAME=VALUE") stands in for whatever
  // this process has under the name; without a value ("NAME") it is not passed on.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const std::vector<std::string>& argv,
                                                             const std::vector<std::string>& variables = {});
  // Kills what still runs and waits for it.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  int exit_fd() const { return exit_fd_; }      // readable when it has ended
  int output_fd() const { return output_fd_; }  // stdout and stderr; does not block

  // To it and to all of its process group.
  void Signal(int number) const;
  // To it alone.
  void SignalAlone(int number) const;
  // REQUIRES: exit_fd() is readable. Once.
  ExitStatus Reap();

 private:
  ChildProcess(pid_t pid, int exit_fd, int output_fd) : pid_(pid), exit_fd_(exit_fd), output_fd_(output_fd) {}

  const pid_t pid_;
  const int exit_fd_;
  const int output_fd_;
  bool reaped_ = false;
};

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_CHILD_PROCESS_H_
