#include "worker/comm/group_member.h"

#include <algorithm>
#include <bit>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

namespace {

std::string During(absl::string_view action) { return action.empty() ? "" : absl::StrCat(" during ", action); }

}  // namespace

absl::StatusOr<bool> GroupMember::WaitUntil(absl::string_view action, SteadyTime deadline,
                                            absl::FunctionRef<uint32_t()> missing) {
  SteadyTime now = steady_clock::now();
  const SteadyTime spin_end = std::min(now + policy_.spin_limit, deadline);
  while (now < spin_end) {
    for (int i = 0; i < kLooksBeforeClock; ++i) {
      if (missing() == 0) return true;
      RelaxCore();
    }
    if (memory_->aborted()) return Health(action);
    now = steady_clock::now();
  }
  Doorbell& doorbell = memory_->rank(rank_).doorbell;
  for (;;) {
    const nanoseconds limit = std::min<nanoseconds>(policy_.liveness_period, deadline - now);
    if (limit > nanoseconds::zero()) {
      doorbell.Sleep(limit.count(), [&] { return missing() == 0 || memory_->aborted(); });
    }
    const uint32_t awaited = missing();
    if (awaited == 0) return true;
    if (memory_->aborted()) return Health(action);
    now = steady_clock::now();
    if (const uint32_t dead = peers_.Dead(awaited); dead != 0) {
      // All that a dead peer wrote is visible now; its last word may be what we wait for.
      if ((missing() & dead) == 0) continue;
      return Fail(Exited(action, dead));
    }
    if (now >= deadline) return false;
  }
}

absl::Status GroupMember::WaitLong(absl::string_view action, SteadyTime deadline,
                                   absl::FunctionRef<uint32_t()> missing) {
  absl::StatusOr<bool> done = WaitUntil(action, deadline, missing);
  if (!done.ok()) return done.status();
  if (*done) return absl::OkStatus();
  const uint32_t awaited = missing();
  if (awaited == 0) return absl::OkStatus();
  return Fail(absl::DeadlineExceededError(
      absl::StrCat(Names(awaited), " did not take part in ", action, " before its deadline")));
}

void GroupMember::WakeOthers() {
  for (int r = 0; r < size(); ++r) {
    if (r != rank_) Wake(r);
  }
}

absl::Status GroupMember::Health(absl::string_view action) const {
  if (memory_->aborted()) {
    return absl::AbortedError(absl::StrCat("group aborted", During(action), ": ", memory_->abort_reason()));
  }
  if (const uint32_t dead = peers_.Dead(everyone_else()); dead != 0) return Exited(action, dead);
  return absl::OkStatus();
}

absl::Status GroupMember::Fail(absl::Status status) {
  Abort(absl::string_view(status.message().data(), status.message().size()));
  return status;
}

absl::Status GroupMember::Exited(absl::string_view action, uint32_t dead) const {
  return absl::UnavailableError(absl::StrCat("peer ", Names(dead), " exited", During(action)));
}

std::string GroupMember::Names(uint32_t mask) const {
  std::string names;
  for (; mask != 0; mask &= mask - 1) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", peers_.Name(std::countr_zero(mask)));
  }
  return names;
}

}  // namespace tandem::worker
