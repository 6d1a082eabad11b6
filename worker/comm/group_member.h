// A GroupMember is one rank's seat in its group: it waits for peers, wakes them, and learns of their end.
//
// How a wait goes (DESIGN 6): look; spin for at most `spin_limit`, and only where each rank can have a core of its own;
// then sleep on this rank's doorbell. A sleeper wakes ten times a second to look at the peers' pidfds and at its
// deadline, which costs less than 0.1 % of a core. The order of the answers is fixed: what was waited for, then an
// abort, then a dead peer, then the deadline; so a peer that did its part and left has harmed nobody.
//
// Every failed wait aborts the group: the peers leave their calls too, with the first reason.
//
// Wait() is for the engine thread, though several threads of a rank may wait at once. The rest is for any thread.
#ifndef TANDEM_WORKER_COMM_GROUP_MEMBER_H_
#define TANDEM_WORKER_COMM_GROUP_MEMBER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "worker/comm/group_memory.h"
#include "worker/comm/peer_watch.h"

namespace tandem::worker {

using SteadyTime = std::chrono::steady_clock::time_point;

struct WaitPolicy {
  std::chrono::microseconds spin_limit{50};        // 0 where ranks outnumber the cores.
  std::chrono::milliseconds liveness_period{100};  // Between two looks at the peers while asleep.
};

// Tells the core that this is a spin: it leaves more of a shared core to its sibling, and the bus to the writer.
inline void RelaxCore() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

class GroupMember {
 public:
  GroupMember(std::shared_ptr<GroupMemory> memory, int rank, PeerWatch peers, WaitPolicy policy)
      : memory_(std::move(memory)), rank_(rank), peers_(std::move(peers)), policy_(policy) {}

  int rank() const { return rank_; }
  int size() const { return memory_->size(); }
  GroupMemory& memory() const { return *memory_; }
  uint32_t everyone_else() const { return ((uint32_t{1} << size()) - 1) & ~(uint32_t{1} << rank_); }

  // Returns OK once `missing()`, a mask of the ranks still waited for, is empty. It must read shared words with
  // sequentially consistent loads. `action` ("all-reduce") goes into the error:
  //   ABORTED            the group was aborted
  //   UNAVAILABLE        a missing rank's process exited
  //   DEADLINE_EXCEEDED  at `deadline`
  template <typename Missing>
  absl::Status Wait(absl::string_view action, SteadyTime deadline, Missing missing) {
    // Most waits of a running group end within a microsecond or two, before it is worth to read the clock.
    for (int i = 0; i < kLooksBeforeClock; ++i) {
      if (missing() == 0) return absl::OkStatus();
      if (policy_.spin_limit.count() == 0) break;
      RelaxCore();
    }
    return WaitLong(action, deadline, missing);
  }

  // As Wait(), but reaching `deadline` is no failure: false.
  absl::StatusOr<bool> WaitUntil(absl::string_view action, SteadyTime deadline, absl::FunctionRef<uint32_t()> missing);

  // After a sequentially consistent store that `rank` may be waiting for.
  void Wake(int rank) { memory_->rank(rank).doorbell.Ring(); }
  void WakeOthers();

  // OK, or why the group is spent: an abort, or any peer's end. `action`, if any, goes into the message.
  absl::Status Health(absl::string_view action = "") const;

  void Abort(absl::string_view reason) { memory_->Abort(rank_, reason); }

  // Aborts with the message of `status` and returns it.
  absl::Status Fail(absl::Status status);

 private:
  static constexpr int kLooksBeforeClock = 64;

  absl::Status WaitLong(absl::string_view action, SteadyTime deadline, absl::FunctionRef<uint32_t()> missing);
  absl::Status Exited(absl::string_view action, uint32_t dead) const;
  std::string Names(uint32_t mask) const;

  const std::shared_ptr<GroupMemory> memory_;
  const int rank_;
  const PeerWatch peers_;
  const WaitPolicy policy_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_GROUP_MEMBER_H_
