// One connection over TLS and loopback: what a client of each kind meets, from the handshake to the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/security/server_tls.h"
#include "base/security/test_pair.h"
#include "client/gateway/connection.h"
#include "client/gateway/http_text.h"

namespace tandem::gateway {
namespace {

namespace ssl = boost::asio::ssl;
using boost::asio::ip::tcp;
using boost::system::error_code;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class TlsConnectionTest : public ::testing::Test {
 protected:
  TlsConnectionTest() {
    host_.bodies = &bodies_;
    host_.closing = &closing_;
    host_.closed = [this](Connection*) { closed_.set_value(); };
    host_.screen = [](HttpRequest*) -> std::optional<HttpResponse> { return std::nullopt; };
    host_.handle = [](const std::shared_ptr<Exchange>& exchange) {
      exchange->Respond({.body = std::string(exchange->request().body.size(), 'z')});
    };
    host_.handshake_failed = [this](const HandshakeFailure& failure, const std::string& peer) {
      EXPECT_EQ(peer, "127.0.0.1");
      failures_.push_back(failure.reason);
    };
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~TlsConnectionTest() override {
    OnLoop([this] {
      if (connection_ != nullptr) connection_->Close();
      connection_.reset();
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
  void Open() {
    std::vector<std::string> warnings;
    auto tls = security::ServerTls::Open(door_, absl::Hours(1), &warnings);
    ASSERT_TRUE(tls.ok()) << tls.status();
    tls_ = *std::move(tls);
  }
  // The client's end of the connection, before any handshake.
  void Connect(std::optional<ApiError> refusal = std::nullopt) {
    if (tls_ == nullptr) Open();
    tcp::acceptor acceptor(loop_, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
    client_->next_layer().connect(acceptor.local_endpoint());
    timeval patience{.tv_sec = 20, .tv_usec = 0};
    setsockopt(client_->next_layer().native_handle(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    connection_ = std::make_shared<Connection>(acceptor.accept(), tls_->Context().get(), &loop_, &host_);
    OnLoop([this, refusal] { connection_->Start(refusal); });
  }
  error_code Handshake() {
    error_code error;
    client_->handshake(ssl::stream_base::client, error);
    return error;
  }
  // A connection that has ended for a reason that was told.
  std::vector<std::string> Failures() {
    closed_.get_future().wait();
    std::vector<std::string> failures;
    OnLoop([&] { failures = failures_; });
    return failures;
  }
  void Send(const std::string& text) {
    error_code ignored;  // who was answered may hang up
    boost::asio::write(*client_, boost::asio::buffer(text), ignored);
  }
  // All that comes until the other side ends; how it ends is in `end_`.
  template <typename Stream>
  std::string ReadAll(Stream& from) {
    std::string all, piece(4096, '\0');
    end_ = {};
    while (!end_) all.append(piece, 0, from.read_some(boost::asio::buffer(piece), end_));
    return all;
  }
  // The same while `text` is sent, both on this thread: an SSL object is not for two. It ends with the reading.
  std::string ReadAllWhileSending(const std::string& text) {
    std::string all, piece(4096, '\0');
    end_ = {};
    boost::asio::async_write(*client_, boost::asio::buffer(text), [](error_code, size_t) {});
    const std::function<void()> read = [&] {
      client_->async_read_some(boost::asio::buffer(piece), [&](error_code error, size_t got) {
        all.append(piece, 0, got);
        end_ = error;
        error ? clients_.stop() : read();
      });
    };
    read();
    clients_.run_for(std::chrono::seconds(20));
    return all;
  }
  static std::string Post(size_t length, const std::string& more = "") {
    return absl::StrCat("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: ", length, "\r\n", more, "\r\n");
  }

  security::TestFolder folder_;
  security::DoorSettings door_ = folder_.Make("server");
  std::unique_ptr<security::ServerTls> tls_;
  boost::asio::io_context loop_{1}, clients_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{loop_.get_executor()};
  ssl::context speaks_{ssl::context::tls_client};
  std::optional<ssl::stream<tcp::socket>> client_{std::in_place, clients_, speaks_};
  error_code end_;
  ByteBudget bodies_{16 << 20};
  std::atomic<bool> closing_ = false;
  ConnectionHost host_;
  std::vector<std::string> failures_;  // of the loop
  std::promise<void> closed_;
  std::shared_ptr<Connection> connection_;
  std::thread thread_;
};

TEST_F(TlsConnectionTest, RequestsAreAnsweredAndTheEndIsTold) {
  Connect();
  ASSERT_EQ(Handshake(), error_code());
  EXPECT_STREQ(SSL_get_version(client_->native_handle()), "TLSv1.3");
  constexpr size_t kLarge = 1 << 20;  // many records, and many times what waits to be sent
  const std::string answers =
      ReadAllWhileSending(Post(kLarge) + std::string(kLarge, 'a') + Post(3, "connection: close\r\n") + "abc");
  EXPECT_THAT(answers.substr(0, 200), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answers, HasSubstr(absl::StrCat("content-length: ", kLarge)));
  EXPECT_THAT(answers, EndsWith("connection: close\r\n\r\nzzz"));
  EXPECT_EQ(end_, boost::asio::error::eof) << "not cut off: " << end_.message();
}

TEST_F(TlsConnectionTest, WhoIsStillSendingReadsItsRefusal) {
  host_.screen = [](HttpRequest*) -> std::optional<HttpResponse> {
    return ToResponse({.status = 401, .message = "no"});
  };
  Connect();
  ASSERT_EQ(Handshake(), error_code());
  const std::string answer = ReadAllWhileSending(Post(4 << 20) + std::string(2 << 20, 'a'));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 401 "));
  EXPECT_THAT(answer, HasSubstr("\"no\""));
}

TEST_F(TlsConnectionTest, WhoIsOneTooManyIsToldSoOverTls) {
  Connect(ApiError{.status = 503, .message = "full"});
  ASSERT_EQ(Handshake(), error_code());
  EXPECT_THAT(ReadAll(*client_), StartsWith("HTTP/1.1 503 "));
}

TEST_F(TlsConnectionTest, PlainHttpIsAnsweredInPlainHttp) {
  Connect();
  boost::asio::write(client_->next_layer(), boost::asio::buffer(Post(2) + "{}"));
  const std::string answer = ReadAll(client_->next_layer());
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer, HasSubstr("ask https://"));
  client_->next_layer().close();
  EXPECT_THAT(Failures(), ElementsAre("plain_http"));
}

TEST_F(TlsConnectionTest, AnOlderProtocolIsRefused) {
  SSL_CTX_set_min_proto_version(speaks_.native_handle(), TLS1_VERSION);
  client_.emplace(clients_, speaks_);
  SSL_set_max_proto_version(client_->native_handle(), TLS1_1_VERSION);
  SSL_set_cipher_list(client_->native_handle(), "ALL:@SECLEVEL=0");
  Connect();
  EXPECT_THAT(Handshake().message(), HasSubstr("alert protocol version"));
  client_->next_layer().close();
  EXPECT_THAT(Failures(), ElementsAre("protocol"));
}

TEST_F(TlsConnectionTest, WhoWantsAnotherProtocolInsideIsRefusedAndWhoLeavesTheChoiceGetsHttp) {
  constexpr unsigned char kBoth[] = {2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  SSL_set_alpn_protos(client_->native_handle(), kBoth, sizeof(kBoth));
  Connect();
  ASSERT_EQ(Handshake(), error_code());
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(client_->native_handle(), &chosen, &size);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(chosen), size), "http/1.1");
  client_->next_layer().close();
  EXPECT_THAT(Failures(), IsEmpty());

  closed_ = {};
  client_.emplace(clients_, speaks_);
  SSL_set_alpn_protos(client_->native_handle(), kBoth, 3);
  Connect();
  EXPECT_THAT(Handshake().message(), HasSubstr("no application protocol"));
  client_->next_layer().close();
  EXPECT_THAT(Failures(), ElementsAre("protocol"));
}

TEST_F(TlsConnectionTest, AHandshakeThatDoesNotEndIsCutOff) {
  Connect();
  boost::asio::write(client_->next_layer(), boost::asio::buffer("\x16\x03\x01", 3));  // a record that never comes whole
  OnLoop([this] {
    connection_->OnTick(Clock::now());
    EXPECT_TRUE(connection_->idle()) << "a gateway that ends need not wait for it";
    connection_->OnTick(Clock::now() + host_.limits.handshake);
  });
  EXPECT_EQ(ReadAll(client_->next_layer()), "");
  EXPECT_THAT(Failures(), ElementsAre("timeout"));
}

TEST_F(TlsConnectionTest, WhoLeavesInTheHandshakeIsNobodysFault) {
  Connect();
  client_->next_layer().close();
  EXPECT_THAT(Failures(), ElementsAre("left"));
}

TEST_F(TlsConnectionTest, WhoDoesNotTrustTheCertificateIsCounted) {
  client_->set_verify_mode(ssl::verify_peer);
  Connect();
  EXPECT_THAT(Handshake().message(), HasSubstr("certificate verify failed"));
  client_->next_layer().close();
  EXPECT_THAT(Failures(), ElementsAre("distrust"));
}

TEST(HandshakeLogTest, EachKindOfFailureIsSaidOnceASecond) {
  HandshakeLog log;
  const absl::Time now = absl::UnixEpoch();
  const HandshakeFailure slow = HandshakeTooSlow(), left = WhyHandshakeFailed(boost::asio::error::eof, false);
  testing::internal::CaptureStderr();
  for (const int ms : {0, 1, 999, 1000}) log.Say(slow, absl::StrCat("client-", ms), now + absl::Milliseconds(ms));
  log.Say(WhyHandshakeFailed(boost::asio::error::eof, true), "client-x", now);
  log.Say(left, "client-y", now);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, AllOf(HasSubstr("client-0 did not end"), HasSubstr("client-1000 did not end"),
                          HasSubstr("client-x shows a certificate"), Not(HasSubstr("client-1 ")),
                          Not(HasSubstr("client-999")), Not(HasSubstr("client-y"))));
}

TEST_F(TlsConnectionTest, WithAClientCaACertificateIsAskedFor) {
  const security::DoorSettings known = folder_.Make("known"), stranger = folder_.Make("stranger");
  door_.client_ca = known.certificate;
  door_.client_certificates = "required";
  for (const security::DoorSettings* who : {&known, &stranger}) {
    closed_ = {};
    client_.emplace(clients_, speaks_);
    SSL_use_certificate_file(client_->native_handle(), who->certificate.c_str(), SSL_FILETYPE_PEM);
    SSL_use_PrivateKey_file(client_->native_handle(), who->key.c_str(), SSL_FILETYPE_PEM);
    Connect();
    Handshake();  // of TLS 1.3 the client's end ends before the server has looked
    Send(Post(1, "connection: close\r\n") + "a");
    const std::string answer = ReadAll(*client_);
    client_->next_layer().close();
    if (who == &known) {
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
      EXPECT_THAT(Failures(), IsEmpty());
    } else {
      EXPECT_EQ(answer, "");
      EXPECT_THAT(Failures(), ElementsAre("client_certificate"));
    }
  }
}

}  // namespace
}  // namespace tandem::gateway
