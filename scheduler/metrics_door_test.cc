#include "scheduler/metrics_door.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace tandem::scheduler {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class MetricsDoorTest : public ::testing::Test {
 protected:
  MetricsDoorTest() {
    const absl::Status started = door_.Start("127.0.0.1:0");
    EXPECT_TRUE(started.ok()) << started;
  }
  ~MetricsDoorTest() override {
    for (const int fd : open_) close(fd);
  }

  // Closed with the test.
  int Connect() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(door_.port()));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    open_.push_back(fd);
    return fd;
  }
  static void Send(int fd, const std::string& text) {
    EXPECT_EQ(send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // All that comes until the other end closes.
  static std::string ReadAll(int fd) {
    std::string all;
    char buffer[4096];
    for (ssize_t got; (got = recv(fd, buffer, sizeof(buffer), 0)) > 0;) all.append(buffer, static_cast<size_t>(got));
    return all;
  }

  std::string body_ = "live\n";
  MetricsDoor door_{
      [this](const std::string& path) {
        return path == "/health/live" ? MetricsDoor::Answer{200, body_} : MetricsDoor::Answer{404, "no\n"};
      },
      std::chrono::minutes(1)};
  std::vector<int> open_;
};

TEST_F(MetricsDoorTest, ManyThatSayNothingKeepNoProbeWaiting) {
  // One after the other they would be waited for as many minutes.
  for (int i = 0; i < 20; ++i) Connect();
  const auto begin = std::chrono::steady_clock::now();
  const int probe = Connect();
  Send(probe, "GET /health/live HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(probe), StartsWith("HTTP/1.1 200 OK"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(MetricsDoorTest, WhoIsSilentForLongestMakesRoom) {
  const int slow = Connect();
  for (size_t i = 0; i < MetricsDoor::kMostCallers; ++i) Connect();
  EXPECT_EQ(ReadAll(slow), "") << "closed without a word";
  const int probe = Connect();
  Send(probe, "GET /health/live HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(probe), HasSubstr("live\n"));
}

TEST_F(MetricsDoorTest, ARequestMayComeInPieces) {
  const int fd = Connect();
  Send(fd, "GET /health/li");
  const int other = Connect();
  Send(other, "GET /nothing HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(other), StartsWith("HTTP/1.1 404")) << "answered while the first is half said";
  Send(fd, "ve?now HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(fd), StartsWith("HTTP/1.1 200 OK"));
}

TEST_F(MetricsDoorTest, AnAnswerThatIsTakenSlowlyComesWhole) {
  body_.assign(size_t{8} << 20, 'x');  // more than the socket holds
  const int fd = Connect();
  Send(fd, "GET /health/live HTTP/1.1\r\n\r\n");
  pollfd came{fd, POLLIN, 0};
  ASSERT_EQ(poll(&came, 1, 20000), 1);
  const int other = Connect();
  Send(other, "HEAD /health/live HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(other), StartsWith("HTTP/1.1 200 OK")) << "answered meanwhile";
  const std::string all = ReadAll(fd);
  EXPECT_EQ(all.size() - all.find("\r\n\r\n") - 4, body_.size());
}

TEST_F(MetricsDoorTest, WhatIsNoRequestIsToldSo) {
  const int ended = Connect();
  Send(ended, "hello");
  shutdown(ended, SHUT_WR);
  EXPECT_THAT(ReadAll(ended), StartsWith("HTTP/1.1 400"));
  const int posted = Connect();
  Send(posted, "POST /health/live HTTP/1.1\r\n\r\n");
  EXPECT_THAT(ReadAll(posted), StartsWith("HTTP/1.1 405"));
  const int endless = Connect();
  Send(endless, std::string(8192, 'a'));
  EXPECT_THAT(ReadAll(endless), StartsWith("HTTP/1.1 400"));
}

TEST_F(MetricsDoorTest, StopsWhileCallersAreSilent) {
  Connect();
  const auto begin = std::chrono::steady_clock::now();
  door_.Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

}  // namespace
}  // namespace tandem::scheduler
