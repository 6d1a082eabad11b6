#include "client/ctl/http_probe.h"

#include <netdb.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tandem::client::ctl {
namespace {

// Each call on the socket waits so long at most, the connection included.
int Dial(const config::Endpoint& door, absl::Duration patience) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (getaddrinfo(door.host.c_str(), absl::StrCat(door.port).c_str(), &hints, &found) != 0) return -1;
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval wait = absl::ToTimeval(patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  const bool connected = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0;
  freeaddrinfo(found);
  if (connected) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};

// The line that answers, in whichever way bytes travel; less where the other side says less.
template <typename Send, typename Receive>
std::string Ask(const config::Endpoint& door, Send send, Receive receive) {
  const std::string ask =
      absl::StrCat("GET /health/live HTTP/1.1\r\nHost: ", door.ToString(), "\r\nConnection: close\r\n\r\n");
  std::string answer;
  char buffer[512];
  if (send(ask.data(), ask.size()) != static_cast<ssize_t>(ask.size())) return answer;
  while (answer.size() < sizeof(buffer) && !absl::StrContains(answer, "\r\n")) {
    const ssize_t got = receive(buffer, sizeof(buffer));
    if (got <= 0) break;
    answer.append(buffer, static_cast<size_t>(got));
  }
  return answer.substr(0, answer.find("\r\n"));
}

std::string AskInPlainText(const config::Endpoint& door, int fd) {
  return Ask(
      door, [fd](const char* data, size_t size) { return send(fd, data, size, MSG_NOSIGNAL); },
      [fd](char* into, size_t size) { return recv(fd, into, size, 0); });
}

std::string AskOverTls(const config::Endpoint& door, int fd) {
  const std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>> context(SSL_CTX_new(TLS_client_method()));
  const std::unique_ptr<SSL, Freer<SSL_free>> tls(context == nullptr ? nullptr : SSL_new(context.get()));
  if (tls == nullptr || SSL_set_fd(tls.get(), fd) != 1 || SSL_connect(tls.get()) != 1) return "no TLS handshake";
  return Ask(
      door, [&tls](const char* data, size_t size) { return SSL_write(tls.get(), data, static_cast<int>(size)); },
      [&tls](char* into, size_t size) { return SSL_read(tls.get(), into, static_cast<int>(size)); });
}

}  // namespace

absl::Status AskLive(const config::Endpoint& door, HttpDoor kind, absl::Duration patience) {
  const int fd = Dial(door, patience);
  if (fd < 0) return absl::UnavailableError(absl::StrCat("nobody answers at ", door.ToString()));
  std::string line;
  if (kind == HttpDoor::kPlain) line = AskInPlainText(door, fd);
  if (kind == HttpDoor::kTls) line = AskOverTls(door, fd);
  close(fd);
  if (kind == HttpDoor::kTlsForCertificates) return absl::OkStatus();
  if (absl::StartsWith(line, "HTTP/1.") && absl::StrContains(line, " 200")) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(door.ToString(), " answers /health/live with \"", line.substr(0, 40),
                                             "\"; is it another program's?"));
}

}  // namespace tandem::client::ctl
