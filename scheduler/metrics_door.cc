#include "scheduler/metrics_door.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "config/endpoint.h"

namespace tandem::scheduler {
namespace {

using Steady = std::chrono::steady_clock;

constexpr size_t kLongestRequest = 8192;
constexpr int kPauseMs = 50;  // after a connection that could not be taken
constexpr int kBacklog = 64;

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

// For poll: until `when`, rounded up so that it has passed afterwards.
int MillisecondsTo(Steady::time_point when) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - Steady::now()).count();
  return static_cast<int>(std::max<decltype(left)>(left, 0));
}

}  // namespace

// Whoever has connected: first heard, then answered.
struct MetricsDoor::Caller {
  Caller(int f, Steady::time_point u) : fd(f), until(u) {}
  Caller(Caller&& other) noexcept
      : fd(std::exchange(other.fd, -1)),
        until(other.until),
        head(std::move(other.head)),
        answer(std::move(other.answer)),
        sent(other.sent) {}
  Caller& operator=(Caller&& other) noexcept {
    std::swap(fd, other.fd);
    until = other.until;
    head = std::move(other.head);
    answer = std::move(other.answer);
    sent = other.sent;
    return *this;
  }
  ~Caller() {
    if (fd >= 0) close(fd);
  }

  int fd;
  Steady::time_point until;  // what it does now must be done
  std::string head;          // what it has sent
  std::string answer;        // empty: not all that it will send has come
  size_t sent = 0;           // of the answer
};

MetricsDoor::MetricsDoor(Handler handler, std::chrono::milliseconds patience)
    : handler_(std::move(handler)), patience_(patience) {}

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
  listener_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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
  std::vector<Caller> callers;  // who came first stands first
  std::vector<pollfd> waits;
  while (true) {
    waits = {{wake_[0], POLLIN, 0}, {listener_, POLLIN, 0}};
    int timeout = -1;
    for (const Caller& caller : callers) {
      waits.push_back({caller.fd, static_cast<short>(caller.answer.empty() ? POLLIN : POLLOUT), 0});
      const int left = MillisecondsTo(caller.until);
      timeout = timeout < 0 ? left : std::min(timeout, left);
    }
    if (poll(waits.data(), waits.size(), timeout) < 0) {
      if (errno != EINTR) return;
      continue;
    }
    if (waits[0].revents != 0) return;
    const Steady::time_point now = Steady::now();
    std::vector<Caller> staying;
    for (size_t i = 0; i < callers.size(); ++i) {
      const bool heard = waits[i + 2].revents != 0;
      if (heard ? Serve(callers[i]) : now < callers[i].until) staying.push_back(std::move(callers[i]));
    }
    callers = std::move(staying);
    if (waits[1].revents == 0) continue;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0) {
      // Out of descriptors, the listener stays readable: not at once again, or this thread would spin.
      pollfd stop{wake_[0], POLLIN, 0};
      if (poll(&stop, 1, kPauseMs) > 0) return;
      continue;
    }
    if (callers.size() >= kMostCallers) {
      const auto silent =
          std::find_if(callers.begin(), callers.end(), [](const Caller& c) { return c.answer.empty(); });
      callers.erase(silent != callers.end() ? silent : callers.begin());
    }
    callers.emplace_back(connection, now + patience_);
  }
}

bool MetricsDoor::Serve(Caller& caller) {
  if (caller.answer.empty()) {
    char buffer[2048];
    const ssize_t got = recv(caller.fd, buffer, sizeof(buffer), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    caller.head.append(buffer, static_cast<size_t>(got));
    const bool whole = absl::StrContains(caller.head, "\r\n\r\n");
    if (!whole && got > 0 && caller.head.size() < kLongestRequest) return true;
    caller.answer = AnswerTo(caller.head);
  }
  const ssize_t sent =
      send(caller.fd, caller.answer.data() + caller.sent, caller.answer.size() - caller.sent, MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  caller.sent += static_cast<size_t>(sent);
  caller.until = Steady::now() + patience_;
  return caller.sent < caller.answer.size();
}

std::string MetricsDoor::AnswerTo(const std::string& head) {
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
  return text;
}

}  // namespace tandem::scheduler
