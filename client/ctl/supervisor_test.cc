#include "client/ctl/supervisor.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/set_back_clock_for_test.h"

namespace tandem::client::ctl {
namespace {

using ::testing::HasSubstr;

// ---- the policy -----------------------------------------------------------------------------------------------------

TEST(RestartPolicyTest, FirstAtOnceThenLaterAndLater) {
  RestartPolicy policy;
  const absl::Duration soon = absl::Seconds(1);
  EXPECT_EQ(policy.AfterExit(soon, 1), absl::ZeroDuration());
  EXPECT_EQ(policy.AfterExit(soon, std::nullopt), absl::Milliseconds(500));
  EXPECT_EQ(policy.AfterExit(soon, 0), absl::Seconds(1));
  for (int i = 0; i < 10; ++i) policy.AfterExit(soon, 1);
  EXPECT_EQ(policy.AfterExit(soon, 1), absl::Seconds(30)) << "never longer";
}

TEST(RestartPolicyTest, ALongLifeForgivesTheDeathsBeforeIt) {
  RestartPolicy policy;
  policy.AfterExit(absl::Seconds(1), 1);
  policy.AfterExit(absl::Seconds(1), 1);
  EXPECT_EQ(policy.AfterExit(absl::Minutes(5), 1), absl::ZeroDuration());
}

TEST(RestartPolicyTest, TwoMeansNever) {
  RestartPolicy policy;
  EXPECT_EQ(policy.AfterExit(absl::Minutes(5), 2), std::nullopt);
}

TEST(RestartPolicyTest, ARefusedChildWaitsFromTheFirstTimeOn) {
  RestartPolicy policy;
  EXPECT_EQ(policy.AfterExit(absl::Seconds(1), 3), absl::Milliseconds(500));
  EXPECT_EQ(policy.AfterExit(absl::Seconds(1), 3), absl::Seconds(1));
}

TEST(RestartPolicyTest, AChildThatHungIsStartedAtOnceWhateverWasBefore) {
  RestartPolicy policy;
  policy.AfterExit(absl::Seconds(1), 1);
  policy.AfterExit(absl::Seconds(1), 1);
  EXPECT_EQ(policy.AfterExit(absl::Seconds(1), 4), absl::ZeroDuration());
}

// ---- the supervisor, with shell scripts for children ----------------------------------------------------------------

ChildSpec Script(const std::string& label, const std::string& script, int stop_stage = 0) {
  return {label, {"/bin/sh", "-c", script}, stop_stage, /*essential=*/false};
}

class SupervisorTest : public ::testing::Test {
 protected:
  ~SupervisorTest() override { Stop().IgnoreError(); }

  void Run(std::vector<ChildSpec> children) {
    options_.log = [this](absl::string_view label, absl::string_view line) {
      absl::MutexLock lock(&mu_);
      lines_.push_back(absl::StrCat("[", label, "] ", line));
    };
    supervisor_ = std::make_unique<Supervisor>(std::move(children), options_);
    thread_ = std::thread([this] { outcome_ = supervisor_->Run(); });
  }

  // Blocks until `text` stands in a log line for the `times`th time; returns that line.
  std::string WaitFor(const std::string& text, int times = 1) {
    std::string found;
    const auto seen = [&] {
      int count = 0;
      for (const std::string& line : lines_) {
        if (absl::StrContains(line, text) && ++count == times) {
          found = line;
          return true;
        }
      }
      return false;
    };
    absl::MutexLock lock(&mu_);
    EXPECT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&seen), absl::Seconds(20))) << "never said: " << text;
    return found;
  }
  pid_t WaitForPid(const std::string& label, int times = 1) {
    const std::string line = WaitFor("[" + label + "] pid ", times);
    int pid = 0;
    EXPECT_TRUE(absl::SimpleAtoi(line.substr(line.rfind(' ') + 1), &pid)) << line;
    return pid;
  }

  absl::Status Stop() {
    if (thread_.joinable()) {
      supervisor_->RequestStop();
      thread_.join();
    }
    return outcome_;
  }
  absl::Status Join() {
    thread_.join();
    return outcome_;
  }
  std::vector<std::string> Lines() {
    absl::MutexLock lock(&mu_);
    return lines_;
  }

  SupervisorOptions options_;
  std::unique_ptr<Supervisor> supervisor_;
  std::thread thread_;
  absl::Status outcome_;
  absl::Mutex mu_;
  std::vector<std::string> lines_;
};

TEST_F(SupervisorTest, AWallClockThatIsSetBackDelaysNoStart) {
  {
    const WallClockAhead ahead(3600);
    Run({Script("a", "echo began; exit 1")});
    WaitFor("starts again in", 1);  // the second end's; it waits
  }
  WaitFor("[a] began", 3);
}

TEST_F(SupervisorTest, PassesOutputOnLineByLineWithItsLabel) {
  Run({Script("a", "trap 'printf three; exit 0' TERM; echo one; echo two >&2; while :; do sleep 100 & wait $!; done")});
  EXPECT_EQ(WaitFor("one"), "[a] one");
  EXPECT_EQ(WaitFor("two"), "[a] two");
  EXPECT_TRUE(Stop().ok());
  EXPECT_EQ(WaitFor("three"), "[a] three") << "a line without an end is said at the end";
}

TEST_F(SupervisorTest, AKilledChildIsStartedAgainAtOnceThenAfterAWait) {
  options_.restart = RestartPolicy(absl::Milliseconds(100), absl::Seconds(1));
  Run({Script("a", "echo pid $$; exec sleep 100")});
  const pid_t first = WaitForPid("a");
  const absl::Time killed = absl::Now();
  kill(first, SIGKILL);
  const pid_t second = WaitForPid("a", 2);
  EXPECT_NE(first, second);
  EXPECT_LT(absl::Now() - killed, absl::Seconds(15));
  EXPECT_THAT(WaitFor("starts again now"), HasSubstr("was killed by signal 9"));
  kill(second, SIGKILL);
  WaitFor("starts again in 100ms");
  WaitForPid("a", 3);
  EXPECT_TRUE(Stop().ok());
}

TEST_F(SupervisorTest, ExitCodeTwoIsNotStartedAgainAndTheOthersGoOn) {
  Run({Script("bad", "echo cannot work >&2; exit 2"), Script("good", "echo pid $$; exec sleep 100")});
  EXPECT_THAT(WaitFor("bad cannot run and is not started again"), HasSubstr("exited with code 2: cannot work"));
  kill(WaitForPid("good"), SIGKILL);
  WaitForPid("good", 2);
  EXPECT_TRUE(Stop().ok());
}

TEST_F(SupervisorTest, ExitCodeTwoWhileStartingEndsEverything) {
  options_.starting = [] { return true; };
  Run({Script("bad", "echo no such model >&2; exit 2"), Script("good", "exec sleep 100")});
  const absl::Status outcome = Join();
  EXPECT_THAT(std::string(outcome.message()), HasSubstr("bad cannot run"));
  EXPECT_THAT(std::string(outcome.message()), HasSubstr("no such model"));
}

TEST_F(SupervisorTest, AnEssentialChildThatCannotRunEndsEverything) {
  ChildSpec bad = Script("bad", "exit 2");
  bad.essential = true;
  Run({bad, Script("good", "exec sleep 100")});
  EXPECT_FALSE(Join().ok());
}

TEST_F(SupervisorTest, AnEssentialChildThatEndsWhileStartingIsNotTriedForEver) {
  options_.starting = [] { return true; };
  ChildSpec scheduler = Script("scheduler", "echo port 1 is in use >&2; exit 1");
  scheduler.essential = true;
  Run({scheduler, Script("worker", "exec sleep 100")});
  EXPECT_THAT(std::string(Join().message()), HasSubstr("exited with code 1: port 1 is in use"));
}

TEST_F(SupervisorTest, AProgramThatIsNotThereIsNamed) {
  ChildSpec missing = {"gone", {"/nonexistent/program"}, 0, /*essential=*/true};
  Run({missing});
  EXPECT_THAT(std::string(Join().message()), HasSubstr("/nonexistent/program"));
}

TEST_F(SupervisorTest, StopsStageByStage) {
  const std::string wait_for_end = "trap 'echo ends; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
  Run({Script("late", wait_for_end, 1), Script("early", wait_for_end, 0)});
  WaitFor("[late] ready");
  WaitFor("[early] ready");
  EXPECT_TRUE(Stop().ok());
  const auto lines = Lines();
  const auto early = std::find(lines.begin(), lines.end(), "[early] ends");
  const auto late = std::find(lines.begin(), lines.end(), "[late] ends");
  ASSERT_NE(late, lines.end());
  EXPECT_LT(early, late);
}

// What sd_notify(1) would send, in a shell script: says it to NOTIFY_SOCKET as a process of the child's own number.
std::string Say(const std::string& words) {
  return absl::StrCat("exec python3 -c '", R"(
import os, signal, socket, time
name = os.environ["NOTIFY_SOCKET"]
door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
door.connect("\0" + name[1:])
say = lambda word: door.send(word.encode())
)",
                      words, "'");
}

TEST_F(SupervisorTest, WhoDrainsIsWaitedForBeforeTheNextStage) {
  options_.stop_grace = absl::Seconds(20);
  ChildSpec scheduler = Script("scheduler", Say(R"(
signal.signal(signal.SIGUSR1, lambda *_: (time.sleep(0.2), print("finished", flush=True), say("X_TANDEM_DRAINED=1")))
signal.signal(signal.SIGTERM, lambda *_: (print("ends", flush=True), os._exit(0)))
say("READY=1"); print("ready", flush=True)
while True: time.sleep(9)
)"),
                               2);
  scheduler.drains = true;
  Run({scheduler, Script("worker", "trap 'echo ends; exit 0' TERM; echo ready; while :; do sleep 0.01; done", 1)});
  WaitFor("[scheduler] ready");
  WaitFor("[worker] ready");
  EXPECT_TRUE(Stop().ok());
  const auto lines = Lines();
  const auto place = [&](const char* line) { return std::find(lines.begin(), lines.end(), line) - lines.begin(); };
  EXPECT_LT(place("[scheduler] finished"), place("[worker] ends"));
  EXPECT_LT(place("[worker] ends"), place("[scheduler] ends"));
  EXPECT_LT(place("[scheduler] ends"), static_cast<std::ptrdiff_t>(lines.size()));
}

TEST_F(SupervisorTest, TheSecondRequestEndsTheGrace) {
  options_.stop_grace = absl::Hours(1);
  ChildSpec scheduler = Script("scheduler", Say(R"(
signal.signal(signal.SIGUSR1, lambda *_: print("finishes for ever", flush=True))
say("READY=1"); print("ready", flush=True)
while True: time.sleep(9)
)"),
                               2);
  scheduler.drains = true;
  Run({scheduler});
  WaitFor("[scheduler] ready");
  supervisor_->RequestStop();
  WaitFor("finishes for ever");
  EXPECT_TRUE(Stop().ok());
  WaitFor("told again to end");
}

TEST_F(SupervisorTest, AChildThatFallsSilentIsKilledAndStartedAgain) {
  options_.silence = absl::Milliseconds(400);
  Run({Script("a", Say(R"(
assert os.environ["WATCHDOG_USEC"] == "400000"
say("READY=1"); print("pid", os.getpid(), flush=True)
while True: say("WATCHDOG=1"); time.sleep(0.05)
)")),
       Script("never ready", "echo pid $$; exec sleep 100")});
  const pid_t frozen = WaitForPid("a");
  const pid_t quiet = WaitForPid("never ready");
  kill(frozen, SIGSTOP);
  WaitFor("a has given no sign of life for 400ms and is killed");
  EXPECT_NE(WaitForPid("a", 2), frozen);
  EXPECT_EQ(kill(quiet, 0), 0) << "who never spoke is not judged by its silence";
  EXPECT_TRUE(Stop().ok());
}

TEST_F(SupervisorTest, AChildThatIgnoresTheSignalIsKilledInTime) {
  options_.stop_timeout = absl::Milliseconds(200);
  Run({Script("deaf", "trap '' TERM; echo ready; while :; do sleep 0.05; done")});
  WaitFor("[deaf] ready");
  const absl::Time begin = absl::Now();
  EXPECT_TRUE(Stop().ok());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));
  WaitFor("deaf did not end within 200ms and is killed");
}

TEST_F(SupervisorTest, StopDuringABackOffEndsAtOnce) {
  options_.restart = RestartPolicy(absl::Hours(1), absl::Hours(1));
  Run({Script("a", "exit 1")});
  WaitFor("starts again in 1h");
  const absl::Time begin = absl::Now();
  EXPECT_TRUE(Stop().ok());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(30));
}

TEST_F(SupervisorTest, ALineWithoutEndDoesNotFillTheMemory) {
  Run({Script("a", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo done; exec sleep 100")});
  WaitFor("[a] done");
  for (const std::string& line : Lines()) EXPECT_LE(line.size(), 8300u);
  EXPECT_TRUE(Stop().ok());
}

// The supervisor of this test is a process of its own, so that it can be killed.
TEST(SupervisorDeathTest, ChildrenDieWithAKilledSupervisor) {
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  const pid_t supervisor = fork();
  if (supervisor == 0) {
    SupervisorOptions options;
    options.log = [&](absl::string_view, absl::string_view line) {
      const std::string text = absl::StrCat(line, "\n");
      if (write(pipe_fds[1], text.data(), text.size()) < 0) _exit(1);
    };
    Supervisor({Script("child", "trap '' TERM; echo $$; while :; do sleep 1; done")}, options).Run().IgnoreError();
    _exit(0);
  }
  char buffer[64] = {};
  ASSERT_GT(read(pipe_fds[0], buffer, sizeof(buffer) - 1), 0);
  const pid_t child = atoi(buffer);
  ASSERT_GT(child, 0);
  const int child_fd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  ASSERT_GE(child_fd, 0);
  kill(supervisor, SIGKILL);
  waitpid(supervisor, nullptr, 0);
  pollfd poll_fd = {child_fd, POLLIN, 0};
  EXPECT_EQ(poll(&poll_fd, 1, 10000), 1) << "the child outlived its supervisor";
  close(child_fd);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
}

}  // namespace
}  // namespace tandem::client::ctl
