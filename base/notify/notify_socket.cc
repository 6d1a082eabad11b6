#include "base/notify/notify_socket.h"

#include <glog/logging.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_split.h"

namespace tandem {

NotifySocket::NotifySocket() : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  PCHECK(fd_ >= 0);
  const int on = 1;
  PCHECK(setsockopt(fd_, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // Without a name the kernel chooses one that is free.
  PCHECK(bind(fd_, reinterpret_cast<const sockaddr*>(&address), offsetof(sockaddr_un, sun_path)) == 0);
  socklen_t size = sizeof(address);
  PCHECK(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  name_.assign(address.sun_path, size - offsetof(sockaddr_un, sun_path));
  name_[0] = '@';
}

NotifySocket::~NotifySocket() { close(fd_); }

std::optional<NotifySocket::Message> NotifySocket::Take() {
  char text[4096];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))];
  iovec into = {text, sizeof(text)};
  msghdr header = {};
  header.msg_iov = &into;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t got;
  do {
    got = recvmsg(fd_, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return std::nullopt;
  Message message{0, absl::StrSplit(std::string(text, static_cast<size_t>(got)), '\n', absl::SkipEmpty())};
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_CREDENTIALS) continue;
    ucred sender;
    std::memcpy(&sender, CMSG_DATA(each), sizeof(sender));
    message.from = sender.pid;
  }
  return message;
}

}  // namespace tandem
