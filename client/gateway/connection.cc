#include "client/gateway/connection.h"

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/gateway/http_text.h"

namespace tandem::gateway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr size_t kHighMark = 64 << 10;   // of waiting answer
constexpr size_t kMostAhead = 64 << 10;  // of what a client sends before it has its answer
constexpr size_t kReadPiece = 4 << 10;
constexpr size_t kBodyPiece = 64 << 10;
constexpr uint64_t kFreeBody = 64 << 10;  // bodies up to this are not charged

// No error of Beast's or of the network means this one.
const error_code kNoRoom(ENOMEM, boost::system::generic_category());

absl::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

// The handle that handlers hold. It lets go of the connection when the answer has ended.
class Connection::ExchangeOnConnection final : public Exchange {
 public:
  ExchangeOnConnection(std::shared_ptr<Connection> connection, HttpRequest request)
      : loop_(connection->loop_), connection_(std::move(connection)), request_(std::move(request)) {}

  HttpRequest& request() override { return request_; }
  void Post(std::function<void()> work) override { asio::post(*loop_, std::move(work)); }

  void Respond(HttpResponse response) override {
    if (connection_ == nullptr || begun_) return;
    connection_->SendWhole(std::move(response));
    End();
  }
  void BeginStream(std::string content_type, Headers headers) override {
    if (connection_ == nullptr || begun_) return;
    begun_ = true;
    if (connection_->chunked_) headers.emplace_back("transfer-encoding", "chunked");
    connection_->Send(connection_->Head(200, content_type, headers));
  }
  void Write(absl::string_view bytes) override {
    if (connection_ == nullptr || !begun_ || bytes.empty() || connection_->head_only_) return;
    if (!connection_->chunked_) return connection_->Send(bytes);
    connection_->Send(absl::StrCat(absl::Hex(bytes.size()), "\r\n", bytes, "\r\n"));
  }
  void EndStream() override {
    if (connection_ == nullptr || !begun_) return;
    if (connection_->chunked_ && !connection_->head_only_) connection_->Send("0\r\n\r\n");
    End();
  }

  bool Congested() const override { return connection_ != nullptr && connection_->out_.size() >= kHighMark; }
  void OnWritable(std::function<void()> writable) override { writable_ = std::move(writable); }
  void OnCut(std::function<void(Cut)> cut) override { cut_ = std::move(cut); }

  // From the connection.
  void Writable() {
    if (const auto writable = std::exchange(writable_, nullptr)) writable();
  }
  void BeCut(Cut why) {
    if (const auto cut = std::exchange(cut_, nullptr)) cut(why);
  }
  void LetGo() {
    connection_.reset();
    const auto cut = std::exchange(cut_, nullptr);
    const auto writable = std::exchange(writable_, nullptr);
  }

 private:
  void End() {
    const auto connection = connection_;
    LetGo();
    connection->EndAnswer();
  }

  asio::io_context* const loop_;
  std::shared_ptr<Connection> connection_;  // null: ended
  HttpRequest request_;
  bool begun_ = false;
  std::function<void()> writable_;
  std::function<void(Cut)> cut_;
};

Connection::Connection(asio::ip::tcp::socket socket, SSL_CTX* tls, asio::io_context* loop, const ConnectionHost* host)
    : socket_(std::move(socket), tls), loop_(loop), host_(host) {}

Connection::~Connection() { host_->bodies->Give(static_cast<int64_t>(charged_)); }

// ---- beginning ----------------------------------------------------------------------------------------------------

void Connection::Start(std::optional<ApiError> refusal) {
  socket_.SetNoDelay();
  if (!socket_.encrypted()) return Begin(refusal);
  state_ = State::kHandshaking;
  ExpectWithin(host_->limits.handshake);
  socket_.Handshake([self = shared_from_this(), refusal = std::move(refusal)](error_code error) {
    self->OnHandshake(error, refusal);
  });
}

void Connection::Begin(const std::optional<ApiError>& refusal) {
  if (refusal.has_value()) return Refuse(*refusal);
  AwaitRequest();
}

// Who fails hears of it: an alert has been sent, and whoever speaks plain HTTP is answered in it.
void Connection::OnHandshake(error_code error, const std::optional<ApiError>& refusal) {
  if (state_ == State::kClosed) return;
  if (!error) return Begin(refusal);
  const HandshakeFailure failure = WhyHandshakeFailed(error, socket_.CertificateRefused());
  host_->handshake_failed(failure, socket_.peer());
  socket_.LeaveTls();
  if (!failure.plain_http()) return Linger();
  Refuse({400, "this is an HTTPS address, and the request is plain HTTP: ask https://"});
}

// ---- reading ------------------------------------------------------------------------------------------------------

void Connection::AwaitRequest() {
  state_ = State::kIdle;
  ExpectWithin(host_->limits.idle);
  Parse();
}

// One read is under way as long as there is room for what it brings: it waits for requests, brings bodies, and notices
// who leaves before the answer.
void Connection::Read() {
  if (reading_ || read_ended_ || state_ == State::kClosed) return;
  reading_ = true;
  const bool body = state_ == State::kLingering || (state_ == State::kReading && parser_->is_header_done());
  socket_.ReadSome(in_.prepare(body ? kBodyPiece : kReadPiece),
                   [self = shared_from_this()](error_code error, size_t bytes) { self->OnRead(error, bytes); });
}

void Connection::OnRead(error_code error, size_t bytes) {
  reading_ = false;
  if (state_ == State::kClosed) return;
  in_.commit(bytes);
  if (error) read_ended_ = true;
  switch (state_) {
    case State::kIdle:
    case State::kReading:
      return Parse();
    case State::kAnswering:
      if (error) return CutExchange(Cut::kClientLeft);
      if (in_.size() < kMostAhead) Read();
      return;
    case State::kLingering:
      return Linger();
    case State::kHandshaking:
    case State::kClosed:
      return;
  }
}

void Connection::Parse() {
  if (state_ == State::kIdle) {
    if (in_.size() == 0) return read_ended_ ? Close() : Read();
    state_ = State::kReading;
    ExpectWithin(host_->limits.header);
    request_ = {};
    head_only_ = false;
    parser_.emplace();
    parser_->header_limit(host_->limits.header_bytes);
    parser_->body_limit(host_->limits.body_bytes);
  }
  while (in_.size() > 0 && !parser_->is_done()) {
    const bool in_body = parser_->is_header_done();
    error_code error;
    in_.consume(parser_->put(in_.data(), error));
    if (error == http::error::need_more) break;
    if (error) return RefuseRequest(error);
    if (!in_body) {
      if (!parser_->is_header_done()) break;
      if (!TakeHeader()) return;
      continue;
    }
    if (!TakeBody(parser_->get().body().size())) return RefuseRequest(kNoRoom);
  }
  if (parser_->is_done()) return Dispatch();
  if (read_ended_) return RefuseRequest(http::error::partial_message);
  Read();
}

// False: the request has been refused.
bool Connection::TakeHeader() {
  parser_->eager(true);
  const auto& header = parser_->get();
  head_only_ = header.method() == http::verb::head;
  chunked_ = header.version() == 11;
  keep_alive_ = header.keep_alive() && chunked_;
  request_.id = RequestId(View(header["x-request-id"]));
  const auto length = parser_->content_length();
  error_code error;
  if (header.version() != 10 && header.version() != 11) {
    error = http::error::bad_version;
  } else if (header.count(http::field::host) != 1 && chunked_) {
    error = http::error::bad_field;
  } else if (length && *length > host_->limits.body_bytes) {
    error = http::error::body_limit;
  }
  if (error) {
    RefuseRequest(error);
    return false;
  }
  if (!Screen()) return false;
  body_began_ = Clock::now();
  TakeBody(0);
  // Nothing else is being sent now, and the answer comes after it in any case.
  if (chunked_ && absl::EqualsIgnoreCase(View(header[http::field::expect]), "100-continue")) {
    Send("HTTP/1.1 100 Continue\r\n\r\n");
  }
  return true;
}

// Fills the request from its header and asks whether it is let in. False: it has been answered.
bool Connection::Screen() {
  const auto& header = parser_->get();
  request_.method = head_only_ ? "GET" : std::string(header.method_string());
  for (const auto& field : header) {
    request_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  std::optional<HttpResponse> answer;
  if (auto path = DecodePath(View(header.target()))) {
    request_.path = *std::move(path);
    answer = host_->screen(&request_);
  } else {
    host_->refused(400);
    keep_alive_ = false;
    answer = ToResponse(InvalidParameter("", "the path of the request is malformed"));
  }
  if (!answer.has_value()) return true;
  keep_alive_ = keep_alive_ && parser_->is_done();  // there is no body that would have to be taken
  state_ = State::kAnswering;
  SendWhole(*std::move(answer));
  EndAnswer();
  return false;
}

// So much of the body is here. False: there is no room for it. Who sends a byte now and then does not keep the
// connection: the whole body has an end in sight.
bool Connection::TakeBody(uint64_t bytes) {
  const Limits& limits = host_->limits;
  const auto paid_for = std::chrono::seconds(static_cast<int64_t>(bytes / limits.body_rate));
  deadline_ = std::min(Clock::now(), body_began_ + paid_for) + limits.body_progress;
  return ChargeBody(bytes);
}

// Raises what this connection has of the budget to `bytes`.
bool Connection::ChargeBody(uint64_t bytes) {
  if (bytes <= kFreeBody || bytes <= charged_) return true;
  if (!host_->bodies->Take(static_cast<int64_t>(bytes - charged_))) return false;
  charged_ = bytes;
  return true;
}

void Connection::Dispatch() {
  state_ = State::kAnswering;
  deadline_ = Clock::time_point::max();
  answer_ended_ = false;
  auto message = parser_->release();
  parser_.reset();
  HttpRequest request = std::move(request_);
  request_.id = request.id;  // the answer bears it
  request.body = std::move(message.body());
  exchange_ = std::make_shared<ExchangeOnConnection>(shared_from_this(), std::move(request));
  if (in_.size() < kMostAhead) Read();
  const auto exchange = exchange_;
  host_->handle(exchange);
}

// Status first, then the end; see Linger().
void Connection::RefuseRequest(error_code error) {
  ApiError refusal;
  if (error == http::error::header_limit) {
    refusal = {431, absl::StrCat("the header of the request is longer than ", host_->limits.header_bytes, " bytes")};
  } else if (error == http::error::body_limit) {
    refusal = {413, absl::StrCat("the body is longer than ", host_->limits.body_bytes, " bytes")};
  } else if (error == kNoRoom) {
    refusal = {.status = 503,
               .message = "the gateway holds as many request bodies as it has room for; try again",
               .type = "server_error",
               .code = "bodies_full",
               .retry_after = absl::Seconds(1)};
  } else if (error == http::error::partial_message) {
    refusal = {400, "the request ended before its end: the connection was closed within it"};
  } else {
    refusal = {400, absl::StrCat("this is not an HTTP/1.1 request: ", error.message())};
  }
  Refuse(refusal);
}

void Connection::Refuse(const ApiError& error) {
  if (request_.id.empty()) request_.id = RequestId("");
  host_->refused(error.status);
  keep_alive_ = false;
  chunked_ = true;
  state_ = State::kAnswering;
  SendWhole(ToResponse(error));
  EndAnswer();
}

// A socket that is closed with unread data resets the connection, and the client may lose the answer. So the sending
// side is closed alone, and what still comes is thrown away for a while.
void Connection::Linger() {
  if (state_ != State::kLingering) {
    state_ = State::kLingering;
    ExpectWithin(host_->limits.linger);
    parser_.reset();
    return socket_.EndSending([self = shared_from_this()] {
      self->send_ended_ = true;
      if (self->state_ == State::kLingering) self->Linger();
    });
  }
  in_.consume(in_.size());
  if (read_ended_) return Close();
  if (send_ended_) Read();
}

// ---- answering ----------------------------------------------------------------------------------------------------

std::string Connection::Head(int status, const std::string& content_type, const Headers& headers) const {
  std::string head =
      absl::StrCat("HTTP/1.1 ", status, " ", ReasonPhrase(status),
                   "\r\ndate: ", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
                   "\r\nserver: tandem\r\nx-request-id: ", request_.id, "\r\ncontent-type: ", content_type, "\r\n");
  for (const auto& [key, value] : headers) absl::StrAppend(&head, key, ": ", value, "\r\n");
  const bool stays = keep_alive_ && !host_->closing->load() && !read_ended_;
  absl::StrAppend(&head, "connection: ", stays ? "keep-alive" : "close", "\r\n\r\n");
  return head;
}

void Connection::SendWhole(HttpResponse response) {
  response.headers.emplace_back("content-length", absl::StrCat(response.body.size()));
  std::string text = Head(response.status, response.content_type, response.headers);
  if (!head_only_) text += response.body;
  Send(text);
}

void Connection::Send(absl::string_view bytes) {
  if (state_ == State::kClosed) return;
  out_.append(bytes.data(), bytes.size());
  Flush();
}

void Connection::Flush() {
  if (!sending_.empty() || out_.empty()) return;
  sending_.swap(out_);
  if (state_ == State::kAnswering) ExpectWithin(host_->limits.write_progress);
  socket_.WriteAll(asio::buffer(sending_),
                   [self = shared_from_this()](error_code error, size_t) { self->OnSent(error); });
}

void Connection::OnSent(error_code error) {
  if (state_ == State::kClosed) return;
  sending_.clear();
  if (sending_.capacity() > 2 * kHighMark) sending_.shrink_to_fit();
  if (error) return Close();
  if (state_ == State::kAnswering) deadline_ = Clock::time_point::max();
  if (!out_.empty()) return Flush();
  if (answer_ended_) return AfterAnswer();
  if (exchange_ != nullptr) exchange_->Writable();
}

void Connection::EndAnswer() {
  if (state_ == State::kClosed) return;
  exchange_.reset();
  answer_ended_ = true;
  host_->bodies->Give(static_cast<int64_t>(std::exchange(charged_, 0)));
  if (sending_.empty() && out_.empty()) AfterAnswer();
}

void Connection::AfterAnswer() {
  answer_ended_ = false;
  if (!keep_alive_ || host_->closing->load() || read_ended_) return Linger();
  AwaitRequest();
}

void Connection::CutExchange(Cut cut) {
  if (const auto exchange = exchange_) exchange->BeCut(cut);
}

void Connection::CutOff() {
  if (state_ == State::kReading) return Refuse(CutError(Cut::kShutdown));
  CutExchange(Cut::kShutdown);
}

void Connection::OnTick(Clock::time_point now) {
  if (now < deadline_) return;
  if (state_ == State::kReading) {
    return Refuse({408, "the request did not come whole in time"});
  }
  if (state_ == State::kHandshaking) host_->handshake_failed(HandshakeTooSlow(), socket_.peer());
  Close();
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  const auto self = shared_from_this();
  state_ = State::kClosed;
  if (const auto exchange = std::exchange(exchange_, nullptr)) {
    exchange->BeCut(Cut::kClientLeft);
    exchange->LetGo();
  }
  socket_.Close();
  host_->closed(this);
}

}  // namespace tandem::gateway
