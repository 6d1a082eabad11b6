#include "worker/comm/unix_socket.h"

#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr absl::string_view kPrefix = "unix-abstract:";
constexpr int kBacklog = 128;
constexpr size_t kMaxFds = 16;

absl::StatusOr<std::pair<sockaddr_un, socklen_t>> Address(absl::string_view endpoint) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  absl::string_view name = endpoint;
  // The first byte of an abstract name is zero.
  if (!absl::ConsumePrefix(&name, kPrefix) || name.empty() || name.size() > sizeof(address.sun_path) - 1) {
    return absl::InvalidArgumentError(absl::StrFormat("endpoint \"%s\" is not of the form %s<name of at most %d bytes>",
                                                      absl::CEscape(endpoint), kPrefix, sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  return std::pair(address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size()));
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "socket for the meeting of ranks");
  return fd;
}

}  // namespace

absl::Status Patience::Check() const {
  if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) return absl::CancelledError("cancelled");
  if (steady_clock::now() >= deadline) return absl::DeadlineExceededError("deadline passed");
  return absl::OkStatus();
}

milliseconds Patience::Slice(milliseconds longest) const {
  const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
  return std::clamp(left, milliseconds(0), longest);
}

absl::StatusOr<std::string> NewEndpoint() {
  std::array<char, 16> random;
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) {
    return absl::ErrnoToStatus(errno, "getrandom for an endpoint's name");
  }
  return absl::StrCat(kPrefix, "tandem-", absl::BytesToHexString(absl::string_view(random.data(), random.size())));
}

absl::StatusOr<UniqueFd> ListenAt(absl::string_view endpoint) {
  auto address = Address(endpoint);
  if (!address.ok()) return address.status();
  absl::StatusOr<UniqueFd> fd = NewSocket();
  if (!fd.ok()) return fd;
  if (bind(fd->get(), reinterpret_cast<const sockaddr*>(&address->first), address->second) != 0 ||
      listen(fd->get(), kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("listening at ", endpoint));
  }
  return fd;
}

absl::StatusOr<UniqueFd> ConnectTo(absl::string_view endpoint) {
  auto address = Address(endpoint);
  if (!address.ok()) return address.status();
  absl::StatusOr<UniqueFd> fd = NewSocket();
  if (!fd.ok()) return fd;
  if (connect(fd->get(), reinterpret_cast<const sockaddr*>(&address->first), address->second) != 0) {
    if (errno == ECONNREFUSED) return absl::NotFoundError(absl::StrCat("nobody listens at ", endpoint));
    return absl::UnavailableError(absl::StrCat("connecting to ", endpoint, ": ", strerrordesc_np(errno)));
  }
  return fd;
}

absl::StatusOr<PeerCredentials> CredentialsOf(int socket) {
  ucred credentials;
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return absl::ErrnoToStatus(errno, "SO_PEERCRED");
  }
  return PeerCredentials{credentials.pid, credentials.uid};
}

absl::Status SendPacket(int socket, absl::string_view bytes, absl::Span<const int> fds) {
  iovec data{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    if (fds.size() > kMaxFds) return absl::InvalidArgumentError(absl::StrCat(fds.size(), " descriptors in a packet"));
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return absl::UnavailableError(absl::StrCat("the other side does not listen: ", strerrordesc_np(errno)));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Packet>> TryReceivePacket(int socket, size_t max_bytes, size_t max_fds) {
  Packet packet;
  packet.bytes.resize(max_bytes);
  iovec data{.iov_base = packet.bytes.data(), .iov_len = packet.bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t received;
  do {
    received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
  if (received <= 0) {
    return absl::UnavailableError(received == 0 ? "the other side has closed" : strerrordesc_np(errno));
  }
  // Taken first, so that they are closed whatever else is wrong.
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      packet.fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || packet.fds.size() > max_fds) {
    return absl::DataLossError("a packet larger than any that is known here");
  }
  packet.bytes.resize(static_cast<size_t>(received));
  return packet;
}

absl::StatusOr<Packet> ReceivePacket(int socket, size_t max_bytes, size_t max_fds, const Patience& patience) {
  for (;;) {
    absl::StatusOr<std::optional<Packet>> packet = TryReceivePacket(socket, max_bytes, max_fds);
    if (!packet.ok()) return packet.status();
    if (packet->has_value()) return **std::move(packet);
    if (absl::Status status = patience.Check(); !status.ok()) return status;
    pollfd readable{.fd = socket, .events = POLLIN, .revents = 0};
    poll(&readable, 1, static_cast<int>(patience.Slice().count()));
  }
}

}  // namespace tandem::worker
