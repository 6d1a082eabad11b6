// A Rendezvous is the door at which the ranks of a group knock. One per worker process, for all its groups.
//
// It listens at a random abstract address. Its thread reads one Hello from each connection and answers at once: the
// group is not open here yet (the caller tries again), refused (wrong user, secret, epoch, size, or a rank that is
// there already), or taken. Refusals change nothing for whoever knocks next. A connection that says nothing is closed
// after `hello_timeout`, and when too many wait, the oldest goes: silence can delay nobody.
#ifndef TANDEM_WORKER_COMM_RENDEZVOUS_H_
#define TANDEM_WORKER_COMM_RENDEZVOUS_H_

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/bootstrap_wire.h"
#include "worker/comm/group_identity.h"
#include "worker/comm/unique_fd.h"
#include "worker/comm/unix_socket.h"

namespace tandem::worker {

class Rendezvous {
 public:
  struct Options {
    size_t max_pending = 64;  // Connections that have not said who they are.
    absl::Duration hello_timeout = absl::Seconds(2);
  };

  // A rank that proved itself, and waits for its welcome.
  struct Joined {
    UniqueFd socket;
    pid_t pid = 0;
    UniqueFd pidfd;
  };

  static absl::StatusOr<std::unique_ptr<Rendezvous>> Start(const Options& options);
  static absl::StatusOr<std::unique_ptr<Rendezvous>> Start() { return Start(Options()); }

  // REQUIRES: no Admit() in progress.
  ~Rendezvous();

  const std::string& endpoint() const { return endpoint_; }

  // Opens the door for one group and returns ranks 1, 2, .. (at index rank - 1) once all are there. Otherwise tells
  // those that came, and answers DEADLINE_EXCEEDED naming the missing ranks, CANCELLED, or ALREADY_EXISTS where this
  // epoch of the group is open already. From any thread; several groups may be open at once.
  absl::StatusOr<std::vector<Joined>> Admit(const GroupIdentity& identity, const Patience& patience);

 private:
  using Key = std::pair<uint64_t, GroupEpoch>;

  struct Opening {
    const GroupIdentity* identity;
    std::vector<std::optional<Joined>> ranks;  // Index rank - 1.
    bool Complete();
  };

  struct Pending {
    UniqueFd socket;
    std::chrono::steady_clock::time_point deadline;
  };

  Rendezvous(const Options& options, std::string endpoint, UniqueFd listener, UniqueFd stop);

  void Serve();
  bool AcceptAll();  // False where the process is out of descriptors.
  // True once the connection is done with: taken, answered or broken.
  bool Hear(Pending& pending);
  std::optional<Notice> Judge(const Hello& hello, Pending& pending, const PeerCredentials& peer);  // Under mu_.

  const Options options_;
  const std::string endpoint_;
  const UniqueFd listener_;
  const UniqueFd stop_;  // An eventfd.

  // Of the standard library: ThreadSanitizer does not see through a packaged abseil.
  std::mutex mu_;
  std::condition_variable joined_;   // Somebody took a seat.
  std::map<Key, Opening> openings_;  // Guarded by mu_.

  std::deque<Pending> pending_;  // Of the thread. Oldest first.
  std::thread thread_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_RENDEZVOUS_H_
