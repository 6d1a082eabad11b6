#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "base/notify/life_signs.h"
#include "base/notify/notifier.h"
#include "base/notify/notify_socket.h"
#include "base/notify/pulse.h"

namespace tandem {
namespace {

using std::chrono::microseconds;
using ::testing::ElementsAre;

class NotifyTest : public ::testing::Test {
 protected:
  NotifyTest() { setenv("NOTIFY_SOCKET", socket_.name().c_str(), 1); }
  ~NotifyTest() override {
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) unsetenv(name);
  }

  NotifySocket::Message Await() {
    pollfd ready = {socket_.fd(), POLLIN, 0};
    EXPECT_EQ(poll(&ready, 1, 20000), 1) << "nothing was told";
    return socket_.Take().value_or(NotifySocket::Message{});
  }

  NotifySocket socket_;
};

TEST_F(NotifyTest, WhatIsToldArrivesWithTheSender) {
  Notifier().Tell("READY=1\nSTATUS=serves");
  const NotifySocket::Message message = Await();
  EXPECT_EQ(message.from, getpid());
  EXPECT_THAT(message.lines, ElementsAre("READY=1", "STATUS=serves"));
  EXPECT_FALSE(socket_.Take().has_value());
}

TEST_F(NotifyTest, NobodyListensAndNothingHappens) {
  unsetenv("NOTIFY_SOCKET");
  Notifier().Tell(kNotifyReady);
  setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
  Notifier().TellAlive();
  EXPECT_FALSE(socket_.Take().has_value());
}

TEST_F(NotifyTest, ALifeIsWatchedWhereItIsAskedForAndOnlyOnesOwn) {
  EXPECT_FALSE(Notifier().watchdog().has_value());
  setenv("WATCHDOG_USEC", "5000", 1);
  EXPECT_EQ(Notifier().watchdog(), microseconds(5000));
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_FALSE(Notifier().watchdog().has_value());
}

TEST_F(NotifyTest, SignsComeOnlyWhileTheThreadComesRound) {
  setenv("WATCHDOG_USEC", "4000", 1);
  std::function<void()> owed;  // of the thread of LifeSigns while `stuck`
  std::atomic<bool> stuck = false, asked = false;
  {
    LifeSigns signs(std::make_shared<Notifier>(), [&](std::function<void()> answer) {
      if (!stuck) return answer();
      owed = std::move(answer);
      asked = true;
    });
    EXPECT_THAT(Await().lines, ElementsAre(kNotifyReady));
    EXPECT_THAT(Await().lines, ElementsAre(kNotifyAlive));
    EXPECT_THAT(Await().lines, ElementsAre(kNotifyAlive));
    stuck = true;
    while (!asked) usleep(100);
    while (socket_.Take().has_value()) {
    }
    pollfd ready = {socket_.fd(), POLLIN, 0};
    EXPECT_EQ(poll(&ready, 1, 50), 0) << "a sign of life from a thread that is stuck";
  }
  owed();  // late, with nobody left to hear it but the socket
  EXPECT_THAT(Await().lines, ElementsAre(kNotifyAlive));
}

TEST(PulseTest, OwesFromTheFirstQuestionOnAndIsAskedOnce) {
  std::function<void()> answer;
  int asked = 0;
  Pulse pulse([&](std::function<void()> given) {
    answer = std::move(given);
    ++asked;
  });
  EXPECT_EQ(pulse.Take().count(), 0);
  usleep(2000);
  EXPECT_GE(pulse.Take(), microseconds(2000));
  EXPECT_EQ(asked, 1);
  answer();
  EXPECT_EQ(pulse.Take().count(), 0);
  EXPECT_EQ(asked, 2);
}

}  // namespace
}  // namespace tandem
