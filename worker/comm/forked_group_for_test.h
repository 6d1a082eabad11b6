// Ranks as processes: the test is rank 0, each other rank is a child that runs a function and exits.
//
// Children are forked before the test starts any thread. They are killed, if they still live, when the group goes.
#ifndef TANDEM_WORKER_COMM_FORKED_GROUP_FOR_TEST_H_
#define TANDEM_WORKER_COMM_FORKED_GROUP_FOR_TEST_H_

#include <glog/logging.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/comm/group_bootstrap.h"

namespace tandem::worker {

class ForkedGroup {
 public:
  // `child` returns whether all went well.
  ForkedGroup(int ranks, const JoinOptions& options, const std::function<bool(GroupChannel&)>& child) {
    for (int rank = 1; rank < ranks; ++rank) {
      int fds[2];
      PCHECK(pipe(fds) == 0);
      const pid_t pid = fork();
      PCHECK(pid >= 0);
      if (pid == 0) {
        close(fds[1]);
        _exit(RunChild(rank, ranks, fds[0], options, child) ? 0 : 1);
      }
      close(fds[0]);
      pids_.push_back(pid);
      pipes_.emplace_back(fds[1]);
    }
    rendezvous_ = *Rendezvous::Start();
    for (const UniqueFd& pipe : pipes_) {
      PCHECK(write(pipe.get(), rendezvous_->endpoint().data(), rendezvous_->endpoint().size()) > 0);
    }
    absl::StatusOr<std::unique_ptr<GroupChannel>> channel =
        JoinGroup(*rendezvous_, Identity(0, ranks, rendezvous_->endpoint(), rendezvous_->endpoint()), options);
    CHECK(channel.ok()) << channel.status();
    channel_ = *std::move(channel);
  }

  ~ForkedGroup() {
    for (pid_t pid : pids_) {
      if (pid > 0) kill(pid, SIGKILL);
      Reap(pid);
    }
  }

  GroupChannel& channel() { return *channel_; }
  pid_t pid(int rank) const { return pids_[static_cast<size_t>(rank) - 1]; }

  // Waits until the child has exited; true if it said that all went well.
  bool Join(int rank) { return Reap(pids_[static_cast<size_t>(rank) - 1]); }

 private:
  static GroupIdentity Identity(int rank, int ranks, const std::string& host, const std::string& own) {
    GroupIdentity identity;
    identity.group_id = 9;
    identity.epoch = GroupEpoch{1, 2};
    identity.rank = rank;
    identity.size = ranks;
    identity.secret.fill(0x5a);
    identity.deadline = absl::Seconds(30);
    identity.endpoints.assign(static_cast<size_t>(ranks), "unix-abstract:another");
    identity.endpoints[0] = host;
    identity.endpoints[static_cast<size_t>(rank)] = own;
    return identity;
  }

  static bool RunChild(int rank, int ranks, int pipe, const JoinOptions& options,
                       const std::function<bool(GroupChannel&)>& child) {
    char host[256];
    const ssize_t length = read(pipe, host, sizeof(host));
    if (length <= 0) return false;
    std::unique_ptr<Rendezvous> rendezvous = *Rendezvous::Start();
    absl::StatusOr<std::unique_ptr<GroupChannel>> channel =
        JoinGroup(*rendezvous, Identity(rank, ranks, std::string(host, length), rendezvous->endpoint()), options);
    if (!channel.ok()) {
      LOG(ERROR) << channel.status();
      return false;
    }
    return child(**channel);
  }

  static bool Reap(pid_t& pid) {
    if (pid <= 0) return false;
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) PCHECK(errno == EINTR);
    pid = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  std::vector<pid_t> pids_;  // 0 once reaped.
  std::vector<UniqueFd> pipes_;
  std::unique_ptr<Rendezvous> rendezvous_;
  std::unique_ptr<GroupChannel> channel_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_FORKED_GROUP_FOR_TEST_H_
