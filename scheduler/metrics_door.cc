#include "scheduler/metrics_door.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "config/endpoint.h"

namespace tandem::scheduler {
namespace {

constexpr size_t kLongestRequest = 8192;
constexpr absl::Duration kPatience = absl::Seconds(2);
constexpr int kBacklog = 16;

const char* Phrase(int code) {
  switch (code) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    default:
      return "Service Unavailable";
  }
}

// Waits until the descriptor is ready for `events`, within the deadline.
bool Ready(int fd, short events, absl::Time deadline) {
  pollfd one{fd, events, 0};
  const int64_t ms = absl::ToInt64Milliseconds(deadline - absl::Now());
  return ms > 0 && poll(&one, 1, static_cast<int>(ms)) == 1;
}

// The head of a request, or what came of it.
std::string ReadHead(int fd, absl::Time deadline) {
  std::string head;
  while (head.size() < kLongestRequest && !absl::StrContains(head, "\r\n\r\n")) {
    if (!Ready(fd, POLLIN, deadline)) break;
    char buffer[2048];
    const ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
    if (got <= 0) break;
    head.append(buffer, static_cast<size_t>(got));
  }
  return head;
}

void WriteAll(int fd, const std::string& text, absl::Time deadline) {
  size_t sent = 0;
  while (sent < text.size() && Ready(fd, POLLOUT, deadline)) {
    const ssize_t one = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (one < 0 && errno != EAGAIN && errno != EINTR) return;
    if (one > 0) sent += static_cast<size_t>(one);
  }
}

}  // namespace

MetricsDoor::MetricsDoor(Handler handler) : handler_(std::move(handler)) {}

MetricsDoor::~MetricsDoor() { Stop(); }

absl::Status MetricsDoor::Start(const std::string& address) {
  const auto endpoint = config::ParseEndpoint(address);
  if (!endpoint.ok()) return endpoint.status();
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(endpoint->host.c_str(), absl::StrCat(endpoint->port).c_str(), &hints, &found);
  if (error != 0) return absl::InvalidArgumentError(absl::StrCat(address, ": ", gai_strerror(error)));
  listener_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool listens = bind(listener_, found->ai_addr, found->ai_addrlen) == 0 && listen(listener_, kBacklog) == 0;
  const int why = errno;
  freeaddrinfo(found);
  if (!listens) {
    close(std::exchange(listener_, -1));
    return absl::UnavailableError(
        absl::StrCat("cannot listen for metrics on ", address, ": ", absl::ErrnoToStatus(why, "").message()));
  }
  sockaddr_storage bound = {};
  socklen_t size = sizeof(bound);
  getsockname(listener_, reinterpret_cast<sockaddr*>(&bound), &size);
  port_ = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                            : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
  if (pipe2(wake_, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void MetricsDoor::Stop() {
  if (thread_.joinable()) {
    const char word = 0;
    while (write(wake_[1], &word, 1) < 0 && errno == EINTR) {
    }
    thread_.join();
  }
  for (int* fd : {&listener_, &wake_[0], &wake_[1]}) {
    if (*fd >= 0) close(std::exchange(*fd, -1));
  }
}

void MetricsDoor::Run() {
  while (true) {
    pollfd waits[] = {{listener_, POLLIN, 0}, {wake_[0], POLLIN, 0}};
    if (poll(waits, 2, -1) < 0 && errno != EINTR) return;
    if (waits[1].revents != 0) return;
    if (waits[0].revents == 0) continue;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    Serve(connection);
    close(connection);
  }
}

void MetricsDoor::Serve(int connection) {
  const std::string head = ReadHead(connection, absl::Now() + kPatience);
  const std::string line = head.substr(0, head.find("\r\n"));
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  Answer answer;
  if (words.size() != 3 || !absl::StartsWith(words[2], "HTTP/1.") || !absl::StrContains(head, "\r\n\r\n")) {
    answer = {400, "not a request of HTTP/1.1\n"};
  } else if (words[0] != "GET" && words[0] != "HEAD") {
    answer = {405, "only GET is answered here\n"};
  } else {
    answer = handler_(words[1].substr(0, words[1].find('?')));
  }
  std::string text =
      absl::StrCat("HTTP/1.1 ", answer.code, " ", Phrase(answer.code),
                   "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: ", answer.body.size(),
                   "\r\nConnection: close\r\n\r\n");
  if (words[0] != "HEAD") text += answer.body;
  WriteAll(connection, text, absl::Now() + kPatience);
}

}  // namespace tandem::scheduler
