// One connection over loopback, with limits that a test can wait for.
#include "client/gateway/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/gateway/http_text.h"

namespace tandem::gateway {
namespace {

using boost::asio::ip::tcp;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class ConnectionTest : public ::testing::Test {
 protected:
  ConnectionTest() {
    host_.bodies = &bodies_;
    host_.closing = &closing_;
    host_.closed = [](Connection*) {};
    host_.screen = [](HttpRequest*) -> std::optional<HttpResponse> { return std::nullopt; };
    host_.handle = [](const std::shared_ptr<Exchange>& exchange) {
      exchange->Respond({.body = absl::StrCat("\"", exchange->request().body.size(), "\"")});
    };
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~ConnectionTest() override {
    OnLoop([this] {
      for (const auto& connection : connections_) connection->Close();
      connections_.clear();
    });
    work_.reset();
    thread_.join();
  }

  template <typename Work>
  void OnLoop(Work work) {
    std::promise<void> done;
    boost::asio::post(loop_, [&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  // The client's end of a new connection.
  tcp::socket Connect() {
    tcp::acceptor acceptor(loop_, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
    tcp::socket client(clients_);
    client.connect(acceptor.local_endpoint());
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    setsockopt(client.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    connections_.push_back(std::make_shared<Connection>(acceptor.accept(), spoken_.get(), &loop_, &host_));
    OnLoop([this] { connections_.back()->Start(); });
    return client;
  }
  void Tick() {
    OnLoop([this] {
      for (const auto& connection : connections_) connection->OnTick(Clock::now());
    });
  }
  static void Send(tcp::socket& socket, const std::string& text) {
    boost::system::error_code ignored;  // who was answered may hang up
    boost::asio::write(socket, boost::asio::buffer(text), ignored);
  }
  // One answer, or what has come of it when the connection ends.
  static std::string Read(tcp::socket& socket) {
    std::string answer, piece(4096, '\0');
    boost::system::error_code end;
    while (!end && !IsWhole(answer)) answer.append(piece, 0, socket.read_some(boost::asio::buffer(piece), end));
    return answer;
  }
  static bool IsWhole(const std::string& answer) {
    const size_t head = answer.find("\r\n\r\n"), length = answer.find("content-length: ");
    return head != std::string::npos && answer.size() - head - 4 >= std::stoul(answer.substr(length + 16));
  }
  static std::string Post(size_t length) {
    return absl::StrCat("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ", length, "\r\n\r\n");
  }

  boost::asio::io_context loop_{1}, clients_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{loop_.get_executor()};
  std::shared_ptr<SSL_CTX> spoken_;  // null: plain text
  ByteBudget bodies_{1 << 20};
  std::atomic<bool> closing_ = false;
  ConnectionHost host_;
  std::vector<std::shared_ptr<Connection>> connections_;
  std::thread thread_;
};

TEST_F(ConnectionTest, WhoIsNotLetInIsToldBeforeItsBody) {
  host_.screen = [](HttpRequest* request) -> std::optional<HttpResponse> {
    EXPECT_EQ(request->path, "/v1/completions");
    return ToResponse({.status = 401, .message = "no"});
  };
  host_.handle = [](const std::shared_ptr<Exchange>&) { ADD_FAILURE() << "it has been let in"; };
  tcp::socket client = Connect();
  Send(client, Post(1 << 20));
  const std::string answer = Read(client);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 401 "));
  EXPECT_THAT(answer, HasSubstr("connection: close")) << "its body would be taken for the next request";
}

TEST_F(ConnectionTest, WithoutABodyTheConnectionStays) {
  host_.screen = [](HttpRequest*) -> std::optional<HttpResponse> { return HttpResponse{.status = 404}; };
  tcp::socket client = Connect();
  for (int i = 0; i < 2; ++i) {
    Send(client, "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n");
    const std::string answer = Read(client);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 404 "));
    EXPECT_THAT(answer, HasSubstr("connection: keep-alive"));
  }
}

TEST_F(ConnectionTest, ABodyThatIsOnlyAnnouncedTakesNoRoom) {
  std::vector<tcp::socket> promising;
  for (int i = 0; i < 16; ++i) {
    promising.push_back(Connect());
    Send(promising.back(), Post(16 << 20));
  }
  tcp::socket client = Connect();
  Send(client, Post(900 << 10));
  Send(client, std::string(900 << 10, 'a'));
  EXPECT_THAT(Read(client), StartsWith("HTTP/1.1 200 ")) << "all of the room is there";
}

TEST_F(ConnectionTest, BodiesThatAreThereFillTheRoom) {
  tcp::socket first = Connect(), second = Connect();
  Send(first, Post(2 << 20));
  Send(first, std::string(900 << 10, 'a'));
  for (bool room = true; room; absl::SleepFor(absl::Milliseconds(1))) {  // until it is charged for
    OnLoop([&] {  // where bodies are charged for, so that none meets what is only looked at
      room = bodies_.Take(200 << 10);
      if (room) bodies_.Give(200 << 10);
    });
  }
  Send(second, Post(900 << 10));
  Send(second, std::string(900 << 10, 'a'));
  EXPECT_THAT(Read(second), StartsWith("HTTP/1.1 503 "));
}

TEST_F(ConnectionTest, AByteNowAndThenKeepsNoConnection) {
  host_.limits.body_progress = std::chrono::seconds(1);
  tcp::socket client = Connect();
  Send(client, Post(1000));
  std::atomic<bool> answered = false;
  std::thread drip([&] {
    for (int i = 0; i < 999 && !answered; ++i) {  // each of them well within the time between two pieces
      Send(client, "a");
      absl::SleepFor(absl::Milliseconds(50));
      Tick();
    }
  });
  const std::string answer = Read(client);
  answered = true;
  drip.join();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 408 "));
}

TEST_F(ConnectionTest, WhatIsReadWhenTheGatewayEndsIsToldSo) {
  tcp::socket client = Connect();
  Send(client, Post(10));
  bool busy = false;
  while (!busy) OnLoop([&] { busy = connections_.back()->busy(); });
  OnLoop([&] { connections_.back()->CutOff(); });
  const std::string answer = Read(client);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answer, HasSubstr("shutting_down"));
}

}  // namespace
}  // namespace tandem::gateway
