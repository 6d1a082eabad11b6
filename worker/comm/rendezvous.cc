#include "worker/comm/rendezvous.h"

#include <glog/logging.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "worker/comm/peer_watch.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

Notice Refusal(absl::StatusCode code, absl::string_view text) {
  Notice notice;
  notice.kind = Notice::kRefused;
  notice.code = static_cast<uint32_t>(code);
  notice.set_text(text);
  return notice;
}

Notice NotYet(absl::string_view text) {
  Notice notice;
  notice.kind = Notice::kNotYet;
  notice.set_text(text);
  return notice;
}

// A waiting rank says nothing, so anything readable is its end.
bool HasLeft(int socket) {
  pollfd state{.fd = socket, .events = POLLIN | POLLRDHUP, .revents = 0};
  return poll(&state, 1, 0) > 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Rendezvous>> Rendezvous::Start(const Options& options) {
  absl::StatusOr<std::string> endpoint = NewEndpoint();
  if (!endpoint.ok()) return endpoint.status();
  absl::StatusOr<UniqueFd> listener = ListenAt(*endpoint);
  if (!listener.ok()) return listener.status();
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return absl::ErrnoToStatus(errno, "eventfd");
  return std::unique_ptr<Rendezvous>(
      new Rendezvous(options, *std::move(endpoint), *std::move(listener), std::move(stop)));
}

Rendezvous::Rendezvous(const Options& options, std::string endpoint, UniqueFd listener, UniqueFd stop)
    : options_(options),
      endpoint_(std::move(endpoint)),
      listener_(std::move(listener)),
      stop_(std::move(stop)),
      thread_([this] { Serve(); }) {}

Rendezvous::~Rendezvous() {
  CHECK_EQ(eventfd_write(stop_.get(), 1), 0);
  thread_.join();
  std::lock_guard lock(mu_);
  CHECK(openings_.empty()) << openings_.size() << " groups are still forming";
}

bool Rendezvous::Opening::Complete() {
  // One that left again while others were awaited is awaited anew: a welcome to it would fail the group.
  for (std::optional<Joined>& rank : ranks) {
    if (rank.has_value() && HasLeft(rank->socket.get())) rank.reset();
  }
  return std::all_of(ranks.begin(), ranks.end(), [](const auto& rank) { return rank.has_value(); });
}

absl::StatusOr<std::vector<Rendezvous::Joined>> Rendezvous::Admit(const GroupIdentity& identity,
                                                                  const Patience& patience) {
  const Key key(identity.group_id, identity.epoch);
  std::unique_lock lock(mu_);
  auto [it, inserted] = openings_.try_emplace(key);
  if (!inserted) return absl::AlreadyExistsError(absl::StrCat(identity.ToString(), " is forming already"));
  Opening& opening = it->second;  // A map's nodes stay where they are.
  opening.identity = &identity;
  opening.ranks.resize(static_cast<size_t>(identity.size) - 1);

  absl::Status status;
  while (!opening.Complete()) {
    status = patience.Check();
    if (!status.ok()) break;
    joined_.wait_for(lock, patience.Slice());
  }
  std::vector<std::optional<Joined>> ranks = std::move(opening.ranks);
  openings_.erase(it);
  lock.unlock();

  if (status.ok()) {
    std::vector<Joined> joined;
    for (std::optional<Joined>& rank : ranks) joined.push_back(*std::move(rank));
    return joined;
  }
  if (absl::IsDeadlineExceeded(status)) {
    std::vector<int> missing;
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (!ranks[i].has_value()) missing.push_back(static_cast<int>(i) + 1);
    }
    status = absl::DeadlineExceededError(absl::StrFormat("%s: rank %s did not join within %s", identity.ToString(),
                                                         absl::StrJoin(missing, ", "),
                                                         absl::FormatDuration(identity.deadline)));
  } else {
    status = absl::CancelledError(absl::StrCat(identity.ToString(), ": forming was cancelled"));
  }
  const Notice refusal = Refusal(status.code(), status.message());
  for (const std::optional<Joined>& rank : ranks) {
    // One that left in the meantime needs no answer.
    if (rank.has_value()) SendPacket(rank->socket.get(), AsBytes(refusal)).IgnoreError();
  }
  return status;
}

void Rendezvous::Serve() {
  bool may_accept = true;
  for (;;) {
    std::vector<pollfd> fds = {{.fd = stop_.get(), .events = POLLIN, .revents = 0},
                               {.fd = may_accept ? listener_.get() : -1, .events = POLLIN, .revents = 0}};
    for (const Pending& pending : pending_) fds.push_back({.fd = pending.socket.get(), .events = POLLIN, .revents = 0});
    int timeout_ms = may_accept ? -1 : 50;
    if (!pending_.empty()) {
      // The oldest has the nearest deadline.
      const auto left = std::chrono::ceil<milliseconds>(pending_.front().deadline - steady_clock::now());
      const int left_ms = static_cast<int>(std::max<int64_t>(left.count(), 0));
      timeout_ms = timeout_ms < 0 ? left_ms : std::min(timeout_ms, left_ms);
    }
    if (poll(fds.data(), fds.size(), timeout_ms) < 0) {
      CHECK_EQ(errno, EINTR) << "poll of " << fds.size() << " descriptors";
      continue;
    }
    if (fds[0].revents != 0) return;

    const auto now = steady_clock::now();
    std::deque<Pending> rest;
    for (size_t i = 0; i < pending_.size(); ++i) {
      const bool done = fds[i + 2].revents != 0 && Hear(pending_[i]);
      if (!done && now < pending_[i].deadline) rest.push_back(std::move(pending_[i]));
    }
    pending_ = std::move(rest);
    may_accept = AcceptAll();
  }
}

bool Rendezvous::AcceptAll() {
  for (;;) {
    UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) return true;
      LOG_EVERY_N(WARNING, 100) << "the meeting point accepts nobody for now: " << strerrordesc_np(errno);
      return false;
    }
    Pending pending{std::move(socket), steady_clock::now() + absl::ToChronoNanoseconds(options_.hello_timeout)};
    if (Hear(pending)) continue;  // Mostly the Hello is there already.
    if (pending_.size() >= options_.max_pending) pending_.pop_front();
    pending_.push_back(std::move(pending));
  }
}

bool Rendezvous::Hear(Pending& pending) {
  absl::StatusOr<std::optional<Packet>> packet = TryReceivePacket(pending.socket.get(), sizeof(Hello), 0);
  if (packet.ok() && !packet->has_value()) return false;
  if (!packet.ok()) return true;
  const std::optional<Hello> hello = Parse<Hello>((*packet)->bytes);
  absl::StatusOr<PeerCredentials> peer = CredentialsOf(pending.socket.get());
  if (!hello.has_value() || !peer.ok()) return true;  // Not one of ours: it gets no answer.
  std::optional<Notice> answer;
  {
    std::lock_guard lock(mu_);
    answer = Judge(*hello, pending, *peer);
  }
  if (answer.has_value()) SendPacket(pending.socket.get(), AsBytes(*answer)).IgnoreError();
  return true;
}

// Takes the socket and returns nothing, or returns the answer.
std::optional<Notice> Rendezvous::Judge(const Hello& hello, Pending& pending, const PeerCredentials& peer) {
  if (peer.uid != geteuid()) {
    return Refusal(absl::StatusCode::kPermissionDenied,
                   absl::StrFormat("user %d knocks at the worker of user %d", peer.uid, geteuid()));
  }
  const GroupEpoch epoch{hello.epoch_leader, hello.epoch_counter};
  const auto it = openings_.find(Key(hello.group_id, epoch));
  if (it == openings_.end()) {
    // The newest epoch of this group that is open, if any.
    auto next = openings_.lower_bound(Key(hello.group_id + 1, GroupEpoch()));
    if (hello.group_id == UINT64_MAX) next = openings_.end();
    if (next == openings_.begin() || std::prev(next)->first.first != hello.group_id) {
      return NotYet(absl::StrFormat("rank 0 does not form group %d epoch %s", hello.group_id, epoch.ToString()));
    }
    const GroupEpoch open = std::prev(next)->first.second;
    const std::string text = absl::StrFormat("group %d epoch %s knocks, rank 0 forms epoch %s", hello.group_id,
                                             epoch.ToString(), open.ToString());
    // An older epoch is over; a newer one may reach rank 0 a moment later.
    return epoch < open ? Refusal(absl::StatusCode::kFailedPrecondition, text) : NotYet(text);
  }
  Opening& opening = it->second;
  const GroupIdentity& identity = *opening.identity;
  std::array<uint8_t, 16> secret;
  std::memcpy(secret.data(), hello.secret, secret.size());
  if (!SecretsEqual(secret, identity.secret)) {
    return Refusal(absl::StatusCode::kPermissionDenied, absl::StrCat(identity.ToString(), ": the secret is wrong"));
  }
  if (hello.size != static_cast<uint32_t>(identity.size) || hello.rank < 1 || hello.rank >= hello.size) {
    return Refusal(absl::StatusCode::kFailedPrecondition,
                   absl::StrFormat("%s: rank %d of %d knocks, ranks 1 to %d of %d are awaited", identity.ToString(),
                                   hello.rank, hello.size, identity.size - 1, identity.size));
  }
  std::optional<Joined>& seat = opening.ranks[hello.rank - 1];
  if (seat.has_value() && !HasLeft(seat->socket.get())) {
    return Refusal(absl::StatusCode::kAlreadyExists,
                   absl::StrFormat("%s: rank %d joined already (pid %d)", identity.ToString(), hello.rank, seat->pid));
  }
  // The process is alive here: its socket is open, and it must still answer over it before the group forms.
  absl::StatusOr<UniqueFd> pidfd = OpenPidFd(peer.pid);
  if (!pidfd.ok()) return Refusal(pidfd.status().code(), pidfd.status().message());
  seat = Joined{std::move(pending.socket), peer.pid, *std::move(pidfd)};
  joined_.notify_all();
  return std::nullopt;
}

}  // namespace tandem::worker
