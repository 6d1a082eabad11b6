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
constexpr int kFirstStage = 0;
constexpr int kLooksPerSilence = 4;

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
  watched_at_ = Steady::now();
  while (true) {
    const Steady::time_point now = Steady::now();
    Watch();
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

Supervisor::Steady::time_point Supervisor::NextDeadline() const {
  Steady::time_point next = stopping_ ? kill_at_ : kNever;
  for (const Child& child : children_) {
    if (child.process == nullptr && !stopping_) next = std::min(next, child.start_at);
    if (child.ready) next = std::min(next, SteadyDeadline(options_.silence / kLooksPerSilence));
  }
  if (systemd_.watchdog()) next = std::min(next, Steady::now() + *systemd_.watchdog() / 2);
  return next;
}

void Supervisor::Poll(Steady::time_point until) {
  std::vector<pollfd> fds = {{wake_fd_, POLLIN, 0}, {ear_.fd(), POLLIN, 0}};
  std::vector<Child*> owners = {nullptr, nullptr};
  for (Child& child : children_) {
    if (child.process == nullptr) continue;
    fds.push_back({child.process->exit_fd(), POLLIN, 0});
    owners.push_back(&child);
    if (!child.output_open) continue;
    fds.push_back({child.process->output_fd(), POLLIN, 0});
    owners.push_back(&child);
  }
  int timeout_ms = -1;
  if (until != kNever) {
    const absl::Duration left = std::clamp(-SteadySince(until), absl::ZeroDuration(), absl::Hours(1));
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
    stop_requests_ += count;
    stopping_ = true;
  }
  if (fds[1].revents != 0) ReadMessages();  // before exits: a sender's number is its own until it is reaped
  for (size_t i = 2; i < fds.size(); ++i) {
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
  const int64_t silence_us = absl::ToInt64Microseconds(options_.silence);
  auto process = ChildProcess::Start(child.spec.argv, {absl::StrCat("NOTIFY_SOCKET=", ear_.name()),
                                                       absl::StrCat("WATCHDOG_USEC=", silence_us), "WATCHDOG_PID"});
  if (!process.ok()) {
    GiveUp(child, std::string(process.status().message()));
    return;
  }
  child.process = std::move(*process);
  child.ready = child.drained = false;
  child.started_at = Steady::now();
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
  child.output_open = child.ready = false;
  if (stopping_) {
    child.start_at = kNever;
    return;
  }
  auto wait = child.restart.AfterExit(SteadySince(child.started_at), exit.code);
  // Before the first readiness an end by its own will is a mistake of configuration, which no repetition mends.
  if (child.spec.essential && exit.code.has_value() && options_.starting()) wait.reset();
  if (!wait.has_value()) {
    GiveUp(child, absl::StrCat(exit.ToString(), child.last_line.empty() ? "" : ": ", child.last_line));
    return;
  }
  child.start_at = SteadyDeadline(*wait);
  Log(absl::StrCat(child.spec.label, " ", exit.ToString(), "; starts again ",
                   *wait == absl::ZeroDuration() ? "now" : absl::StrCat("in ", absl::FormatDuration(*wait))));
}

void Supervisor::GiveUp(Child& child, const std::string& why) {
  child.start_at = kNever;
  const std::string message = absl::StrCat(child.spec.label, " cannot run and is not started again: ", why);
  if (child.spec.essential || options_.starting()) {
    if (outcome_.ok()) outcome_ = absl::InternalError(message);
    stopping_ = true;
    return;
  }
  Log(message);
  const bool any = std::any_of(children_.begin(), children_.end(),
                               [](const Child& each) { return each.process != nullptr || each.start_at != kNever; });
  if (!any) {
    outcome_ = absl::InternalError(message);
    stopping_ = true;
  }
}

// ---- what children say ----------------------------------------------------------------------------------------------

void Supervisor::ReadMessages() {
  while (const auto message = ear_.Take()) {
    for (Child& child : children_) {
      if (child.process == nullptr || child.process->pid() != message->from) continue;
      for (const std::string& line : message->lines) OnMessage(child, line);
    }
  }
}

void Supervisor::OnMessage(Child& child, const std::string& line) {
  child.heard_at = Steady::now();
  if (line == kNotifyReady) child.ready = true;
  if (line == kNotifyReloading) child.ready = false;
  if (line == kNotifyDrained) child.drained = true;
  const bool all = std::all_of(children_.begin(), children_.end(),
                               [](const Child& each) { return each.ready || !each.spec.essential; });
  if (!told_ready_ && all) systemd_.Tell(kNotifyReady);
  told_ready_ = told_ready_ || all;
}

void Supervisor::Watch() {
  const auto now = Steady::now();
  const auto silence = absl::ToChronoMicroseconds(options_.silence);
  // Who was not running itself has heard nobody: a machine that was held, or a log that nobody read.
  const bool was_away = now - watched_at_ > silence / 2;
  watched_at_ = now;
  systemd_.TellAlive();
  for (Child& child : children_) {
    if (was_away) child.heard_at = now;
    if (stopping_ || !child.ready || now - child.heard_at < silence) continue;
    Log(absl::StrCat(child.spec.label, " has given no sign of life for ", absl::FormatDuration(options_.silence),
                     " and is killed"));
    child.ready = false;
    child.process->Signal(SIGKILL);
  }
}

// ---- the end --------------------------------------------------------------------------------------------------------

bool Supervisor::StageGoesOn() const {
  const bool first = stop_stage_ == kFirstStage;
  return std::any_of(children_.begin(), children_.end(), [&](const Child& child) {
    if (child.process == nullptr) return false;
    return child.spec.stop_stage == *stop_stage_ ||
           (first && !hurried_ && child.spec.drains && child.ready && !child.drained);
  });
}

void Supervisor::AdvanceStop() {
  if (!stop_stage_.has_value()) {
    systemd_.Tell(kNotifyStopping);
    BeginStage(kFirstStage);
  }
  if (*stop_stage_ == kFirstStage && !hurried_ && stop_requests_ > 1) {
    hurried_ = true;
    Log("told again to end: what still runs is cut off");
    BeginStage(kFirstStage);
  }
  if (StageGoesOn() && Steady::now() >= kill_at_) {
    for (Child& child : children_) {
      if (child.process == nullptr || child.spec.stop_stage != *stop_stage_) continue;
      Log(absl::StrCat(child.spec.label, " did not end within ", absl::FormatDuration(options_.stop_timeout),
                       " and is killed"));
      child.process->Signal(SIGKILL);
    }
    hurried_ = true;  // who was to finish has had its time
    kill_at_ = kNever;
  }
  if (StageGoesOn()) return;
  std::optional<int> next;
  for (const Child& child : children_) {
    if (child.process != nullptr) next = std::min(next.value_or(child.spec.stop_stage), child.spec.stop_stage);
  }
  stop_stage_ = next;
  if (next.has_value()) BeginStage(*next);
}

void Supervisor::BeginStage(int stage) {
  stop_stage_ = stage;
  const bool grace = stage == kFirstStage && !hurried_;
  for (Child& child : children_) {
    if (child.process == nullptr) continue;
    if (child.spec.stop_stage == stage) child.process->Signal(SIGTERM);
    if (grace && child.spec.drains && child.ready) child.process->SignalAlone(SIGUSR1);
  }
  kill_at_ = SteadyDeadline(options_.stop_timeout + (grace ? options_.stop_grace : absl::ZeroDuration()));
}

void Supervisor::Log(absl::string_view line) const {
  if (options_.log) options_.log("up", line);
}

}  // namespace tandem::client::ctl
