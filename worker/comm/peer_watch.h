// A PeerWatch knows which processes of a group still live. It holds one pidfd per peer, so a reused process id can not
// be taken for the peer. Fixed after construction; any thread may ask.
#ifndef TANDEM_WORKER_COMM_PEER_WATCH_H_
#define TANDEM_WORKER_COMM_PEER_WATCH_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/comm/unique_fd.h"

namespace tandem::worker {

// FAILED_PRECONDITION where the process is not visible from here (gone, or of another pid namespace).
absl::StatusOr<UniqueFd> OpenPidFd(pid_t pid);

class PeerWatch {
 public:
  struct Peer {
    int rank;
    pid_t pid;
    UniqueFd pidfd;
  };

  // Without peers: everyone lives, as for ranks that are threads of one process.
  PeerWatch() = default;
  explicit PeerWatch(std::vector<Peer> peers) : peers_(std::move(peers)) {}

  // Of the ranks in `mask` (bit r is rank r), those that have exited. One system call.
  uint32_t Dead(uint32_t mask) const;

  // "rank 1 (pid 123)", or "rank 1" where the process is unknown.
  std::string Name(int rank) const;

 private:
  std::vector<Peer> peers_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_PEER_WATCH_H_
