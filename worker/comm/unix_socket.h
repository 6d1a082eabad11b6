// Unix sockets for the meeting of ranks: abstract names, whole packets (SOCK_SEQPACKET), descriptors beside the bytes.
//
// An abstract name lives as long as its socket, leaves no file behind, and is random here, so nobody can squat it
// before its owner binds. All sockets are non-blocking and closed on exec; whoever waits brings a Patience.
#ifndef TANDEM_WORKER_COMM_UNIX_SOCKET_H_
#define TANDEM_WORKER_COMM_UNIX_SOCKET_H_

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/comm/unique_fd.h"

namespace tandem::worker {

// How long a caller waits: until the deadline, or until somebody sets the flag (looked at every 20 ms).
struct Patience {
  std::chrono::steady_clock::time_point deadline;
  const std::atomic<bool>* cancelled = nullptr;

  // OK, CANCELLED or DEADLINE_EXCEEDED.
  absl::Status Check() const;
  // From now to the next look, at most `longest`.
  std::chrono::milliseconds Slice(std::chrono::milliseconds longest = std::chrono::milliseconds(20)) const;
};

struct Packet {
  std::string bytes;
  std::vector<UniqueFd> fds;
};

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
};

// "unix-abstract:tandem-<128 random bits in hex>".
absl::StatusOr<std::string> NewEndpoint();

absl::StatusOr<UniqueFd> ListenAt(absl::string_view endpoint);

// NOT_FOUND where nobody listens, UNAVAILABLE where the listener's queue is full, INVALID_ARGUMENT for another form of
// endpoint.
absl::StatusOr<UniqueFd> ConnectTo(absl::string_view endpoint);

// Of the process that called connect() or listen() on the other side.
absl::StatusOr<PeerCredentials> CredentialsOf(int socket);

absl::Status SendPacket(int socket, absl::string_view bytes, absl::Span<const int> fds = {});

// Nothing where no packet is there yet. UNAVAILABLE where the other side has closed, DATA_LOSS for a packet larger than
// `max_bytes` or with more than `max_fds` descriptors.
absl::StatusOr<std::optional<Packet>> TryReceivePacket(int socket, size_t max_bytes, size_t max_fds);

// Waits for a packet. As above, and the errors of Patience::Check().
absl::StatusOr<Packet> ReceivePacket(int socket, size_t max_bytes, size_t max_fds, const Patience& patience);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_UNIX_SOCKET_H_
