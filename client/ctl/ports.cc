#include "client/ctl/ports.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "config/endpoint.h"

namespace tandem::client::ctl {
namespace {

namespace fs = std::filesystem;

// The sockets that listen on `port`, as /proc names what a descriptor is open on: "socket:[4711]".
std::set<std::string> ListeningSockets(int port) {
  constexpr char kListening[] = "0A";
  const std::string suffix = absl::StrFormat(":%04X", port);
  std::set<std::string> sockets;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    for (std::string line; std::getline(file, line);) {
      // Number, local address, remote address, state, four more, user, time-out, inode.
      const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.size() < 10 || !absl::EndsWith(words[1], suffix) || words[3] != kListening) continue;
      sockets.insert(absl::StrCat("socket:[", words[9], "]"));
    }
  }
  return sockets;
}

bool HoldsOne(const fs::path& process, const std::set<std::string>& sockets) {
  std::error_code error;
  for (const auto& descriptor : fs::directory_iterator(process / "fd", error)) {
    if (sockets.contains(fs::read_symlink(descriptor.path(), error).string())) return true;
  }
  return false;
}

// 0, or the error of taking the address for a moment.
int TryToBind(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));  // a closed connection's leftovers are not a holder
  const int error = bind(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  close(fd);
  return error;
}

absl::Status CheckFree(const char* key, const char* flag, const std::string& address) {
  const auto endpoint = config::ParseEndpoint(address);
  if (!endpoint.ok()) return endpoint.status();
  if (endpoint->port == 0) return absl::OkStatus();
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int unknown = getaddrinfo(endpoint->host.c_str(), absl::StrCat(endpoint->port).c_str(), &hints, &found);
  if (unknown != 0) return absl::InvalidArgumentError(absl::StrCat(key, ": ", address, ": ", gai_strerror(unknown)));
  const int error = TryToBind(*found);
  freeaddrinfo(found);
  if (error == 0) return absl::OkStatus();
  if (error != EADDRINUSE) {
    return absl::InvalidArgumentError(absl::StrCat(key, ": cannot serve ", address, ": ", strerror(error)));
  }
  const std::string holder = WhoListens(endpoint->port);
  return absl::InvalidArgumentError(absl::StrCat("port ", endpoint->port, " is in use",
                                                 holder.empty() ? "" : absl::StrCat(" by ", holder), " (", key, ", ",
                                                 address, "); end that, or choose another with ", flag));
}

}  // namespace

std::string WhoListens(int port) {
  const std::set<std::string> sockets = ListeningSockets(port);
  std::error_code error;
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    int pid = 0;
    if (!absl::SimpleAtoi(process.path().filename().string(), &pid) || !HoldsOne(process.path(), sockets)) continue;
    std::string name;
    std::ifstream file(process.path() / "comm");
    std::getline(file, name);
    return absl::StrCat(name, ", process ", pid);
  }
  return "";
}

absl::Status CheckPortsFree(const config::ServerConfig& server, bool http) {
  struct Door {
    const char *key, *flag;
    const std::string& address;
  };
  std::vector<Door> doors = {{"server.clients", "--clients", server.clients},
                             {"server.workers", "--workers", server.workers},
                             {"server.admin", "--admin", server.admin},
                             {"server.metrics", "--metrics", server.metrics}};
  if (http) doors.push_back({"server.http", "--http", server.http});
  for (const Door& door : doors) {
    if (absl::Status status = CheckFree(door.key, door.flag, door.address); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace tandem::client::ctl
