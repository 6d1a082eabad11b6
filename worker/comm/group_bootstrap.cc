#include "worker/comm/group_bootstrap.h"

#include <unistd.h>

#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/comm/bootstrap_wire.h"
#include "worker/comm/cores.h"
#include "worker/comm/peer_watch.h"
#include "worker/comm/unix_socket.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

absl::Status Prefixed(const GroupIdentity& identity, absl::string_view what, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(identity.ToString(), ": ", what, ": ", status.message()));
}

std::unique_ptr<GroupChannel> MakeChannel(const GroupIdentity& identity, const JoinOptions& options, GroupMemory memory,
                                          PeerWatch peers, bool may_spin) {
  WaitPolicy policy;
  if (!may_spin) policy.spin_limit = std::chrono::microseconds(0);
  auto member = std::make_shared<GroupMember>(std::make_shared<GroupMemory>(std::move(memory)), identity.rank,
                                              std::move(peers), policy);
  return std::make_unique<GroupChannel>(identity, std::move(member), options.call_timeout);
}

// The next notice, whatever its kind; a refusal comes as its status.
absl::StatusOr<std::pair<Notice, std::vector<UniqueFd>>> ReceiveNotice(int socket, const Patience& patience) {
  absl::StatusOr<Packet> packet = ReceivePacket(socket, sizeof(Notice), kMaxRanks + 1, patience);
  if (!packet.ok()) return packet.status();
  const std::optional<Notice> notice = Parse<Notice>(packet->bytes);
  if (!notice.has_value()) return absl::FailedPreconditionError("an unknown packet; are the workers of one build?");
  if (notice->kind == Notice::kRefused) {
    return absl::Status(static_cast<absl::StatusCode>(notice->code), notice->get_text());
  }
  return std::pair(*notice, std::move(packet->fds));
}

// ---- Rank 0

absl::StatusOr<std::unique_ptr<GroupChannel>> Welcome(const GroupIdentity& identity, const JoinOptions& options,
                                                      const Patience& patience,
                                                      std::vector<Rendezvous::Joined>& joined) {
  GroupShape shape = options.shape;
  shape.ranks = static_cast<uint32_t>(identity.size);
  absl::StatusOr<GroupMemory> memory = GroupMemory::Create(shape, identity.group_id, identity.epoch);
  if (!memory.ok()) return memory.status();
  absl::StatusOr<UniqueFd> own_pidfd = OpenPidFd(getpid());
  if (!own_pidfd.ok()) return own_pidfd.status();

  std::vector<pid_t> pids = {getpid()};
  std::vector<int> fds = {memory->fd(), own_pidfd->get()};
  for (const Rendezvous::Joined& rank : joined) {
    pids.push_back(rank.pid);
    fds.push_back(rank.pidfd.get());
  }
  Notice welcome;
  welcome.kind = Notice::kWelcome;
  welcome.shape = shape;
  welcome.may_spin = UsableCores(pids) >= identity.size;
  std::copy(pids.begin(), pids.end(), welcome.pids);

  const auto name = [&](size_t i) { return absl::StrFormat("rank %d (pid %d)", i + 1, joined[i].pid); };
  for (size_t i = 0; i < joined.size(); ++i) {
    absl::Status status = SendPacket(joined[i].socket.get(), AsBytes(welcome), fds);
    if (!status.ok()) return Prefixed(identity, name(i), status);
  }
  for (size_t i = 0; i < joined.size(); ++i) {
    auto mapped = ReceiveNotice(joined[i].socket.get(), patience);
    if (!mapped.ok()) return Prefixed(identity, absl::StrCat(name(i), " did not map the memory"), mapped.status());
  }
  Notice go;
  go.kind = Notice::kGo;
  std::vector<PeerWatch::Peer> peers;
  for (size_t i = 0; i < joined.size(); ++i) {
    // One that has exited since is found by its pidfd at the first call.
    SendPacket(joined[i].socket.get(), AsBytes(go)).IgnoreError();
    peers.push_back({static_cast<int>(i) + 1, joined[i].pid, std::move(joined[i].pidfd)});
  }
  return MakeChannel(identity, options, *std::move(memory), PeerWatch(std::move(peers)), welcome.may_spin != 0);
}

absl::StatusOr<std::unique_ptr<GroupChannel>> Host(Rendezvous& rendezvous, const GroupIdentity& identity,
                                                   const JoinOptions& options, const Patience& patience) {
  absl::StatusOr<std::vector<Rendezvous::Joined>> joined = rendezvous.Admit(identity, patience);
  if (!joined.ok()) return joined.status();
  absl::StatusOr<std::unique_ptr<GroupChannel>> channel = Welcome(identity, options, patience, *joined);
  if (!channel.ok()) {
    Notice refusal;
    refusal.kind = Notice::kRefused;
    refusal.code = static_cast<uint32_t>(channel.status().code());
    refusal.set_text(channel.status().message());
    for (const Rendezvous::Joined& rank : *joined) SendPacket(rank.socket.get(), AsBytes(refusal)).IgnoreError();
  }
  return channel;
}

// ---- The others

absl::StatusOr<std::unique_ptr<GroupChannel>> Enter(const GroupIdentity& identity, const JoinOptions& options,
                                                    const Patience& patience, int socket, const Notice& welcome,
                                                    std::vector<UniqueFd> fds) {
  if (fds.size() != static_cast<size_t>(identity.size) + 1 ||
      welcome.shape.ranks != static_cast<uint32_t>(identity.size)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s: rank 0 welcomes %d ranks with %d descriptors, %d ranks are in the group",
                        identity.ToString(), welcome.shape.ranks, fds.size(), identity.size));
  }
  absl::StatusOr<GroupMemory> memory =
      GroupMemory::Open(std::move(fds[0]), welcome.shape, identity.group_id, identity.epoch);
  if (!memory.ok()) return Prefixed(identity, "rank 0's memory", memory.status());
  std::vector<PeerWatch::Peer> peers;
  for (int r = 0; r < identity.size; ++r) {
    if (r != identity.rank) peers.push_back({r, welcome.pids[r], std::move(fds[static_cast<size_t>(r) + 1])});
  }
  Notice mapped;
  mapped.kind = Notice::kMapped;
  absl::Status status = SendPacket(socket, AsBytes(mapped));
  if (status.ok()) status = ReceiveNotice(socket, patience).status();
  if (!status.ok()) return Prefixed(identity, "rank 0 gave up while the group was forming", status);
  return MakeChannel(identity, options, *std::move(memory), PeerWatch(std::move(peers)), welcome.may_spin != 0);
}

// What came of one knock: a channel, or the reason why another knock may do better.
struct KnockResult {
  std::unique_ptr<GroupChannel> channel;
  std::string try_again;
};

absl::StatusOr<KnockResult> Knock(const GroupIdentity& identity, const JoinOptions& options, const Patience& patience) {
  const auto try_again = [](absl::string_view why) {
    return KnockResult{nullptr, std::string(why.data(), why.size())};
  };
  absl::StatusOr<UniqueFd> socket = ConnectTo(identity.endpoints[0]);
  if (absl::IsUnavailable(socket.status())) return try_again(socket.status().message());
  if (absl::IsNotFound(socket.status())) {
    return absl::UnavailableError(
        absl::StrCat(identity.ToString(), ": the worker of rank 0 is gone: ", socket.status().message()));
  }
  if (!socket.ok()) return Prefixed(identity, "endpoint of rank 0", socket.status());
  absl::StatusOr<PeerCredentials> peer = CredentialsOf(socket->get());
  if (!peer.ok()) return peer.status();
  if (peer->uid != geteuid()) {
    return absl::PermissionDeniedError(
        absl::StrFormat("%s: rank 0's endpoint belongs to user %d, this worker to user %d; the secret was not sent",
                        identity.ToString(), peer->uid, geteuid()));
  }
  Hello hello;
  hello.group_id = identity.group_id;
  hello.epoch_leader = identity.epoch.leader;
  hello.epoch_counter = identity.epoch.counter;
  hello.rank = static_cast<uint32_t>(identity.rank);
  hello.size = static_cast<uint32_t>(identity.size);
  std::memcpy(hello.secret, identity.secret.data(), identity.secret.size());
  if (!SendPacket(socket->get(), AsBytes(hello)).ok()) return try_again("rank 0 closed before it was told who knocks");

  auto answer = ReceiveNotice(socket->get(), patience);
  if (absl::IsUnavailable(answer.status())) return try_again("rank 0 closed without an answer");
  if (absl::IsDeadlineExceeded(answer.status()) && patience.Check().code() == absl::StatusCode::kDeadlineExceeded) {
    return Prefixed(identity, "rank 0 was reached, other ranks did not join in time", answer.status());
  }
  if (!answer.ok()) return answer.status();
  auto& [notice, fds] = *answer;
  if (notice.kind == Notice::kNotYet) return try_again(notice.get_text());
  if (notice.kind != Notice::kWelcome) {
    return absl::FailedPreconditionError(absl::StrCat("rank 0 answered with notice ", notice.kind));
  }
  absl::StatusOr<std::unique_ptr<GroupChannel>> channel =
      Enter(identity, options, patience, socket->get(), notice, std::move(fds));
  if (!channel.ok()) return channel.status();
  return KnockResult{*std::move(channel), ""};
}

absl::StatusOr<std::unique_ptr<GroupChannel>> Visit(const GroupIdentity& identity, const JoinOptions& options,
                                                    const Patience& patience) {
  for (milliseconds pause(2);; pause = std::min(pause * 2, milliseconds(50))) {
    absl::StatusOr<KnockResult> result = Knock(identity, options, patience);
    if (!result.ok()) return result.status();
    if (result->channel != nullptr) return std::move(result->channel);
    std::this_thread::sleep_for(patience.Slice(pause));
    if (absl::Status status = patience.Check(); !status.ok()) return Prefixed(identity, result->try_again, status);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GroupChannel>> JoinGroup(Rendezvous& rendezvous, const GroupIdentity& identity,
                                                        const JoinOptions& options) {
  if (absl::Status status = identity.Validate(); !status.ok()) return status;
  const std::string& own_endpoint = identity.endpoints[static_cast<size_t>(identity.rank)];
  if (own_endpoint != rendezvous.endpoint()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: endpoint of rank %d is %s, this worker listens at %s",
                                                      identity.ToString(), identity.rank, own_endpoint,
                                                      rendezvous.endpoint()));
  }
  if (identity.size == 1) return std::make_unique<GroupChannel>(identity);
  const Patience patience{std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(identity.deadline),
                          options.cancelled};
  return identity.rank == 0 ? Host(rendezvous, identity, options, patience) : Visit(identity, options, patience);
}

}  // namespace tandem::worker
