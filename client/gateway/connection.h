// One client's HTTP/1.1 connection, in plain text or over TLS: requests in, one at a time, answers out.
//
// Limits: header 16 KiB, body 16 MiB and a budget that all connections share, 64 KiB of answer waiting to be sent, 64
// KiB of what a client sends ahead. A body costs the budget what has come of it, and only one whose header has passed
// the screening is taken at all. Deadlines: see Limits. What a client does wrong gets a status (400, 408, 413, 431,
// ...) and then the end of the connection, sent so that it arrives although the client may still be sending.
//
// Belongs to its loop, which holds it while the socket is open and looks at its deadline once a second. Handlers hold
// its exchanges; an exchange that has ended does nothing.
#ifndef TANDEM_CLIENT_GATEWAY_CONNECTION_H_
#define TANDEM_CLIENT_GATEWAY_CONNECTION_H_

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>  // before Asio 1.74, which forgets it

#include "client/gateway/api_error.h"
#include "client/gateway/client_socket.h"
#include "client/gateway/handshake.h"
#include "client/gateway/http.h"

namespace tandem::gateway {

using Clock = std::chrono::steady_clock;

struct Limits {
  uint32_t header_bytes = 16 << 10;
  uint64_t body_bytes = 16 << 20;
  std::chrono::seconds handshake{10};       // of TLS, from the connection to its end
  std::chrono::seconds idle{75};            // between requests; longer than the pools of clients keep theirs
  std::chrono::seconds header{30};          // from the first byte to the last one of a header
  std::chrono::seconds body_progress{30};   // between two pieces of a body
  uint64_t body_rate = 64 << 10;            // bytes per second that a body keeps up, `body_progress` aside
  std::chrono::seconds write_progress{60};  // for up to 128 KiB of answer to be taken
  std::chrono::seconds linger{10};          // for a refused body to be thrown away
};

// Bytes that bodies of all connections may take together. Any thread.
class ByteBudget {
 public:
  explicit ByteBudget(int64_t bytes) : left_(bytes) {}
  bool Take(int64_t bytes) {
    if (left_.fetch_sub(bytes) >= bytes) return true;
    left_.fetch_add(bytes);
    return false;
  }
  void Give(int64_t bytes) { left_.fetch_add(bytes); }

 private:
  std::atomic<int64_t> left_;
};

class Connection;

// What a connection needs of its server.
struct ConnectionHost {
  Limits limits;
  // Called on the connection's loop when a header is there, before its body. A value is the answer, and the body is not
  // taken; else it has put the caller into the request.
  std::function<std::optional<HttpResponse>(HttpRequest*)> screen;
  std::function<void(std::shared_ptr<Exchange>)> handle;  // of a whole request, on the connection's loop
  ByteBudget* bodies = nullptr;
  const std::atomic<bool>* closing = nullptr;            // answers end their connections
  std::function<void(Connection*)> closed;               // on its loop; lets go of it
  std::function<void(int status)> refused = [](int) {};  // a request that no handler saw
  std::function<void(const HandshakeFailure&, const std::string& peer)> handshake_failed = [](const HandshakeFailure&,
                                                                                              const std::string&) {};
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `tls`: what the server speaks now; null: plain text.
  Connection(boost::asio::ip::tcp::socket socket, SSL_CTX* tls, boost::asio::io_context* loop,
             const ConnectionHost* host);
  ~Connection();

  // With a refusal: answers it, whatever is asked, and closes.
  void Start(std::optional<ApiError> refusal = std::nullopt);
  // Closes what has stood still for too long.
  void OnTick(Clock::time_point now);
  // Before or between two requests; nothing is lost by closing it.
  bool idle() const { return state_ == State::kIdle || state_ == State::kHandshaking; }
  // A request is being read or answered.
  bool busy() const { return state_ == State::kReading || state_ == State::kAnswering; }
  // What is being read or answered ends with an error that says why.
  void CutOff();
  void Close();

 private:
  enum class State { kHandshaking, kIdle, kReading, kAnswering, kLingering, kClosed };
  class ExchangeOnConnection;
  friend class ExchangeOnConnection;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  // Beginning.
  void Begin(const std::optional<ApiError>& refusal);
  void OnHandshake(boost::system::error_code error, const std::optional<ApiError>& refusal);

  // Reading.
  void AwaitRequest();
  void Read();
  void OnRead(boost::system::error_code error, size_t bytes);
  void Parse();
  bool TakeHeader();
  bool Screen();
  bool TakeBody(uint64_t bytes);
  bool ChargeBody(uint64_t bytes);
  void Dispatch();
  void RefuseRequest(boost::system::error_code error);
  void Refuse(const ApiError& error);
  void Linger();

  // Answering.
  std::string Head(int status, const std::string& content_type, const Headers& headers) const;
  void SendWhole(HttpResponse response);
  void Send(absl::string_view bytes);
  void Flush();
  void OnSent(boost::system::error_code error);
  void EndAnswer();
  void AfterAnswer();
  void CutExchange(Cut cut);

  void ExpectWithin(std::chrono::seconds time) { deadline_ = Clock::now() + time; }

  ClientSocket socket_;
  boost::asio::io_context* const loop_;
  const ConnectionHost* const host_;
  State state_ = State::kIdle;
  Clock::time_point deadline_ = Clock::time_point::max();

  boost::beast::flat_buffer in_;
  std::optional<Parser> parser_;
  HttpRequest request_;           // its header, once that is there
  Clock::time_point body_began_;  // when its header was
  uint64_t charged_ = 0;          // of the shared budget
  bool reading_ = false;          // a read is under way
  bool read_ended_ = false;       // the client has closed its sending side
  bool send_ended_ = false;       // and it has been told that we have

  std::shared_ptr<ExchangeOnConnection> exchange_;
  bool head_only_ = false;
  bool keep_alive_ = false;
  bool chunked_ = false;       // the client speaks HTTP/1.1
  bool answer_ended_ = false;  // all of it is in out_
  std::string out_;            // waits
  std::string sending_;        // under way
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_CONNECTION_H_
