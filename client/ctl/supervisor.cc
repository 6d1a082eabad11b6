#include "client/ctl/supervisor.h"

#include <glog/logging.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::client::ctl {
namespace {

constexpr size_t kMostLineBytes = 8192;  // a child that never ends its line must not fill our memory

}  // namespace

Supervisor::Supervisor(std::vector<ChildSpec> children, SupervisorOptions options)
    : options_(std::move(options)), wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  PCHECK(wake_fd_ >= 0);
  for (ChildSpec& spec : children) {
    Child child;
    child.spec = std::move(spec);
    child.restart = options_.restart;
    children_.push_back(std::move(child));
  }
}

Supervisor::~Supervisor() {
  children_.clear();
  close(wake_fd_);
}

void Supervisor::RequestStop() {
  const uint64_t one = 1;
  const ssize_t ignored = write(wake_fd_, &one, sizeof(one));
  (void)ignored;
}

absl::Status Supervisor::Run() {
  while (true) {
    const absl::Time now = absl::Now();
    if (stopping_) {
      AdvanceStop();
      if (!stop_stage_.has_value()) return outcome_;
    } else {
      for (Child& child : children_) {
        if (child.process == nullptr && child.start_at <= now) Start(child);
      }
      if (stopping_) continue;  // one of them cannot be started, and nothing goes without it
    }
    Poll(NextDeadline());
  }
}

absl::Time Supervisor::NextDeadline() const {
  if (stopping_) return kill_at_;
  absl::Time next = absl::InfiniteFuture();
  for (const Child& child : children_) {
    if (child.process == nullptr) next = std::min(next, child.start_at);
  }
  return next;
}

void Supervisor::Poll(absl::Time until) {
  std::vector<pollfd> fds = {{wake_fd_, POLLIN, 0}};
  std::vector<Child*> owners = {nullptr};
  for (Child& child : children_) {
    if (child.process == nullptr) continue;
    fds.push_back({child.process->exit_fd(), POLLIN, 0});
    owners.push_back(&child);
    if (!child.output_open) continue;
    fds.push_back({child.process->output_fd(), POLLIN, 0});
    owners.push_back(&child);
  }
  int timeout_ms = -1;
  if (until != absl::InfiniteFuture()) {
    const absl::Duration left = std::clamp(until - absl::Now(), absl::ZeroDuration(), absl::Hours(1));
    timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
  }
  const int ready = poll(fds.data(), fds.size(), timeout_ms);
  if (ready < 0) {
    PCHECK(errno == EINTR);
    return;
  }
  if (fds[0].revents != 0) {
    uint64_t count = 0;
    const ssize_t ignored = read(wake_fd_, &count, sizeof(count));
    (void)ignored;
    stopping_ = true;
  }
  for (size_t i = 1; i < fds.size(); ++i) {
    Child& child = *owners[i];
    if (fds[i].revents == 0 || child.process == nullptr) continue;
    if (fds[i].fd == child.process->exit_fd()) {
      ReadOutput(child);  // its last words
      OnExit(child);
    } else {
      ReadOutput(child);
    }
  }
}

void Supervisor::Start(Child& child) {
  auto process = ChildProcess::Start(child.spec.argv);
  if (!process.ok()) {
    GiveUp(child, std::string(process.status().message()));
    return;
  }
  child.process = std::move(*process);
  child.started_at = absl::Now();
  child.output_open = true;
  child.line.clear();
  child.last_line.clear();
}

void Supervisor::ReadOutput(Child& child) {
  char buffer[4096];
  const auto emit = [&] {
    child.last_line = child.line;
    if (options_.log) options_.log(child.spec.label, child.line);
    child.line.clear();
  };
  while (child.output_open) {
    const ssize_t got = read(child.process->output_fd(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      child.output_open = false;
      break;
    }
    for (ssize_t i = 0; i < got; ++i) {
      if (buffer[i] != '\n') child.line += buffer[i];
      if (buffer[i] == '\n' || child.line.size() >= kMostLineBytes) emit();
    }
  }
  if (!child.line.empty()) emit();
}

void Supervisor::OnExit(Child& child) {
  if (!child.line.empty()) {
    child.last_line = child.line;
    if (options_.log) options_.log(child.spec.label, child.line);
    child.line.clear();
  }
  const ExitStatus exit = child.process->Reap();
  child.process.reset();
  child.output_open = false;
  if (stopping_) {
    child.start_at = absl::InfiniteFuture();
    return;
  }
  auto wait = child.restart.AfterExit(absl::Now() - child.started_at, exit.code);
  // Before the first readiness an end by its own will is a mistake of configuration, which no repetition mends.
  if (child.spec.essential && exit.code.has_value() && options_.starting()) wait.reset();
  if (!wait.has_value()) {
    GiveUp(child, absl::StrCat(exit.ToString(), child.last_line.empty() ? "" : ": ", child.last_line));
    return;
  }
  child.start_at = absl::Now() + *wait;
  Log(absl::StrCat(child.spec.label, " ", exit.ToString(), "; starts again ",
                   *wait == absl::ZeroDuration() ? "now" : absl::StrCat("in ", absl::FormatDuration(*wait))));
}

void Supervisor::GiveUp(Child& child, const std::string& why) {
  child.start_at = absl::InfiniteFuture();
  const std::string message = absl::StrCat(child.spec.label, " cannot run and is not started again: ", why);
  if (child.spec.essential || options_.starting()) {
    if (outcome_.ok()) outcome_ = absl::InternalError(message);
    stopping_ = true;
    return;
  }
  Log(message);
  const bool any = std::any_of(children_.begin(), children_.end(), [](const Child& each) {
    return each.process != nullptr || each.start_at != absl::InfiniteFuture();
  });
  if (!any) {
    outcome_ = absl::InternalError(message);
    stopping_ = true;
  }
}

bool Supervisor::AnyRunning(int stage) const {
  return std::any_of(children_.begin(), children_.end(), [stage](const Child& child) {
    return child.process != nullptr && child.spec.stop_stage == stage;
  });
}

void Supervisor::AdvanceStop() {
  if (stop_stage_.has_value() && AnyRunning(*stop_stage_)) {
    if (absl::Now() < kill_at_) return;
    for (Child& child : children_) {
      if (child.process == nullptr || child.spec.stop_stage != *stop_stage_) continue;
      Log(absl::StrCat(child.spec.label, " did not end within ", absl::FormatDuration(options_.stop_timeout),
                       " and is killed"));
      child.process->Signal(SIGKILL);
    }
    kill_at_ = absl::InfiniteFuture();
    return;
  }
  std::optional<int> next;
  for (const Child& child : children_) {
    if (child.process != nullptr) next = std::min(next.value_or(child.spec.stop_stage), child.spec.stop_stage);
  }
  stop_stage_ = next;
  if (!next.has_value()) return;
  for (Child& child : children_) {
    if (child.process != nullptr && child.spec.stop_stage == *next) child.process->Signal(SIGTERM);
  }
  kill_at_ = absl::Now() + options_.stop_timeout;
}

void Supervisor::Log(absl::string_view line) const {
  if (options_.log) options_.log("up", line);
}

}  // namespace tandem::client::ctl
