#include "base/notify/notifier.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/strings/numbers.h"

namespace tandem {
namespace {

constexpr timeval kMostWait = {.tv_sec = 2, .tv_usec = 0};

absl::string_view Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// "/run/x" or "@x", an abstract name. -1 where there is none, or none that can be used.
int Connect(absl::string_view where) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (where.size() < 2 || where.size() >= sizeof(address.sun_path) || (where[0] != '/' && where[0] != '@')) return -1;
  std::copy(where.begin(), where.end(), address.sun_path);
  if (where[0] == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + where.size());
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kMostWait, sizeof(kMostWait));
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0) return fd;
  close(fd);
  return -1;
}

}  // namespace

Notifier::Notifier() : fd_(Connect(Variable("NOTIFY_SOCKET"))) {
  int64_t silence_us = 0;
  int pid = 0;
  const absl::string_view whose = Variable("WATCHDOG_PID");  // somebody else's is none of ours
  if (!whose.empty() && (!absl::SimpleAtoi(whose, &pid) || pid != getpid())) return;
  if (fd_ < 0 || !absl::SimpleAtoi(Variable("WATCHDOG_USEC"), &silence_us) || silence_us <= 0) return;
  watchdog_ = std::chrono::microseconds(silence_us);
}

Notifier::~Notifier() {
  if (fd_ >= 0) close(fd_);
}

void Notifier::Tell(absl::string_view message) const {
  if (fd_ < 0) return;
  const ssize_t ignored = send(fd_, message.data(), message.size(), MSG_NOSIGNAL);
  (void)ignored;
}

void Notifier::TellAlive() const {
  if (fd_ < 0) return;
  const ssize_t ignored = send(fd_, kNotifyAlive, std::strlen(kNotifyAlive), MSG_NOSIGNAL | MSG_DONTWAIT);
  (void)ignored;
}

}  // namespace tandem
