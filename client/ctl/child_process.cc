#include "client/ctl/child_process.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem::client::ctl {
namespace {

// Between fork and exec only calls that are safe in a child of a process with threads.
[[noreturn]] void BecomeChild(const std::vector<char*>& argv, const std::vector<char*>& environment, int output,
                              int failure, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it died before the line above
  for (const int number : {SIGINT, SIGTERM, SIGPIPE, SIGHUP}) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int input = open("/dev/null", O_RDONLY);
  if (input >= 0 && dup2(input, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
      dup2(output, STDERR_FILENO) >= 0) {
    execve(argv[0], argv.data(), environment.data());
  }
  const int error = errno;
  const ssize_t ignored = write(failure, &error, sizeof(error));
  (void)ignored;
  _exit(127);
}

absl::string_view NameOf(absl::string_view variable) { return variable.substr(0, variable.find('=')); }

// Of this process's environment what none of `variables` stands in for.
std::vector<char*> InheritedBeside(const std::vector<std::string>& variables) {
  std::vector<char*> inherited;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const bool replaced = std::any_of(variables.begin(), variables.end(), [entry](const std::string& variable) {
      return NameOf(variable) == NameOf(*entry);
    });
    if (!replaced) inherited.push_back(*entry);
  }
  return inherited;
}

int OpenPidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

}  // namespace

std::string ExitStatus::ToString() const {
  if (code.has_value()) return absl::StrCat("exited with code ", *code);
  return absl::StrCat("was killed by signal ", signal, " (", strsignal(signal), ")");
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(const std::vector<std::string>& argv,
                                                                  const std::vector<std::string>& variables) {
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> environment = InheritedBeside(variables);
  for (const std::string& variable : variables) {
    if (absl::StrContains(variable, '=')) environment.push_back(const_cast<char*>(variable.c_str()));
  }
  environment.push_back(nullptr);

  int output[2], failure[2];
  if (pipe2(output, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  if (pipe2(failure, O_CLOEXEC) != 0) {
    const int error = errno;
    close(output[0]);
    close(output[1]);
    return absl::ErrnoToStatus(error, "pipe");
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeChild(arguments, environment, output[1], failure[1], parent);
  const int fork_error = errno;
  close(output[1]);
  close(failure[1]);
  if (pid < 0) {
    close(output[0]);
    close(failure[0]);
    return absl::ErrnoToStatus(fork_error, "fork");
  }
  // Ends without a byte when exec has closed the other end.
  int exec_error = 0;
  ssize_t got;
  do {
    got = read(failure[0], &exec_error, sizeof(exec_error));
  } while (got < 0 && errno == EINTR);
  close(failure[0]);
  if (got == sizeof(exec_error)) {
    close(output[0]);
    waitpid(pid, nullptr, 0);
    return absl::ErrnoToStatus(exec_error, absl::StrCat("cannot run ", argv[0]));
  }
  const int exit_fd = OpenPidfd(pid);
  PCHECK(exit_fd >= 0) << "pidfd_open";
  PCHECK(fcntl(output[0], F_SETFL, O_NONBLOCK) == 0);
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, exit_fd, output[0]));
}

ChildProcess::~ChildProcess() {
  if (!reaped_) {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(exit_fd_);
  close(output_fd_);
}

void ChildProcess::Signal(int number) const {
  // The group first exists when the child has made it; until then there is only the child.
  if (kill(-pid_, number) != 0) kill(pid_, number);
}

void ChildProcess::SignalAlone(int number) const { kill(pid_, number); }

ExitStatus ChildProcess::Reap() {
  CHECK(!reaped_);
  kill(-pid_, SIGKILL);  // what it left behind; before the wait, for until then the number is its own
  int status = 0;
  PCHECK(waitpid(pid_, &status, 0) == pid_);
  reaped_ = true;
  ExitStatus exit;
  if (WIFEXITED(status)) exit.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) exit.signal = WTERMSIG(status);
  return exit;
}

}  // namespace tandem::client::ctl
