#include "worker/device_lock.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

// "process 4711 (tandem-worker)"
std::string HolderOf(const sockaddr_un& address, socklen_t length) {
  const UniqueFd asker(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ucred who{};
  socklen_t size = sizeof(who);
  if (!asker.valid() || connect(asker.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      getsockopt(asker.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.pid <= 0) {
    return "another process";
  }
  std::ifstream comm(absl::StrCat("/proc/", who.pid, "/comm"));
  std::string name;
  std::getline(comm, name);
  return absl::StrCat("process ", who.pid, name.empty() ? "" : absl::StrCat(" (", name, ")"));
}

}  // namespace

absl::StatusOr<DeviceLock> DeviceLock::Take(const std::string& uuid) {
  UniqueFd lock(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!lock.valid()) return absl::InternalError(absl::StrCat("no socket: ", std::strerror(errno)));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = absl::StrCat("tandem/device/", uuid);
  if (name.size() + 1 > sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", uuid, "\" is no uuid of a device"));
  }
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // the leading zero makes it abstract
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (bind(lock.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    if (errno != EADDRINUSE) return absl::InternalError(absl::StrCat("the device's lock: ", std::strerror(errno)));
    return absl::AlreadyExistsError(
        absl::StrCat(HolderOf(address, length), " has it; a device has one worker at a time"));
  }
  // Nobody is let in; who connects learns whose socket it is.
  if (listen(lock.get(), 1) != 0) return absl::InternalError(absl::StrCat("the device's lock: ", std::strerror(errno)));
  return DeviceLock(std::move(lock));
}

}  // namespace tandem::worker
