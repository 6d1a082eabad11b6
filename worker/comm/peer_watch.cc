#include "worker/comm/peer_watch.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/comm/group_identity.h"

namespace tandem::worker {

absl::StatusOr<UniqueFd> OpenPidFd(pid_t pid) {
  UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "process %d can not be watched (%s): ranks of one host must share a pid namespace and run Linux 5.3 or newer",
        pid, absl::ErrnoToStatus(errno, "pidfd_open").message()));
  }
  return fd;
}

uint32_t PeerWatch::Dead(uint32_t mask) const {
  pollfd fds[kMaxRanks];
  int ranks[kMaxRanks];
  nfds_t count = 0;
  for (const Peer& peer : peers_) {
    if ((mask >> peer.rank & 1) == 0) continue;
    fds[count] = {.fd = peer.pidfd.get(), .events = POLLIN, .revents = 0};
    ranks[count++] = peer.rank;
  }
  if (count == 0 || poll(fds, count, 0) <= 0) return 0;
  uint32_t dead = 0;
  for (nfds_t i = 0; i < count; ++i) {
    if (fds[i].revents != 0) dead |= uint32_t{1} << ranks[i];
  }
  return dead;
}

std::string PeerWatch::Name(int rank) const {
  for (const Peer& peer : peers_) {
    if (peer.rank == rank) return absl::StrFormat("rank %d (pid %d)", rank, peer.pid);
  }
  return absl::StrCat("rank ", rank);
}

}  // namespace tandem::worker
