#include "client/ctl/gpus.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

extern char** environ;

namespace tandem::client::ctl {

Gpus AskForGpus(const std::string& worker) {
  Gpus gpus;
  int ends[2];
  if (pipe(ends) != 0) return {.why_none = "no pipe"};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  std::string program = worker, flag = "--list-devices";
  char* const argv[] = {program.data(), flag.data(), nullptr};
  pid_t pid = 0;
  const int error = posix_spawn(&pid, worker.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t got; error == 0 && (got = read(ends[0], buffer, sizeof(buffer))) != 0;) {
    if (got < 0 && errno != EINTR) break;
    if (got > 0) said.append(buffer, static_cast<size_t>(got));
  }
  close(ends[0]);
  if (error != 0) return {.why_none = absl::StrCat(worker, " does not start")};
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  for (absl::string_view line : absl::StrSplit(said, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "cuda:")) {
      gpus.devices.emplace_back(line.substr(0, line.find(' ')));
    } else if (absl::ConsumePrefix(&line, "tandem-worker: ")) {
      gpus.why_none = std::string(line);
    }
  }
  return gpus;
}

}  // namespace tandem::client::ctl
