#include "client/ctl/question.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/steady_wait.h"

extern char** environ;

namespace tandem::client::ctl {
namespace {

// Starts it with both outputs on `output`.
absl::StatusOr<pid_t> Start(const std::vector<std::string>& argv, int output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, words[0], &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::UnavailableError(absl::StrCat(argv[0], " does not start"));
  return pid;
}

}  // namespace

std::string OwnFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

absl::StatusOr<std::string> Ask(const std::vector<std::string>& argv, const Patience& patience) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::UnavailableError("no pipe");
  const SteadyTime slow_at = SteadyDeadline(patience.unsaid), end = SteadyDeadline(patience.most);
  const absl::StatusOr<pid_t> pid = Start(argv, ends[1]);
  close(ends[1]);
  std::string said;
  bool slow = false, over = !pid.ok(), late = false;
  while (!over && !late) {
    const absl::Duration left = std::max(absl::ZeroDuration(), -SteadySince(slow ? end : std::min(slow_at, end)));
    pollfd output{ends[0], POLLIN, 0};
    const int ready = poll(&output, 1, static_cast<int>(absl::ToInt64Milliseconds(left + absl::Milliseconds(1))));
    if (ready > 0) {
      char buffer[4096];
      const ssize_t got = read(ends[0], buffer, sizeof(buffer));
      if (got > 0) said.append(buffer, static_cast<size_t>(got));
      over = got == 0 || (got < 0 && errno != EINTR);
    } else if (!slow && SteadySince(slow_at) >= absl::ZeroDuration()) {
      slow = true;
      patience.slow();
    } else if (SteadySince(end) >= absl::ZeroDuration()) {
      late = true;
    }
  }
  close(ends[0]);
  if (!pid.ok()) return pid.status();
  if (late) kill(*pid, SIGKILL);
  while (waitpid(*pid, nullptr, late ? WNOHANG : 0) < 0 && errno == EINTR) {
  }
  if (!late) return said;
  return absl::DeadlineExceededError(absl::StrCat("no answer in ", absl::FormatDuration(patience.most)));
}

}  // namespace tandem::client::ctl
