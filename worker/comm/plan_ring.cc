#include "worker/comm/plan_ring.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::worker {

using std::chrono::steady_clock;

struct PlanRing::Header {
  uint64_t step;
  uint64_t bytes;
  uint64_t checksum;
  uint64_t reserved;
};

namespace {

constexpr uint64_t kUnit = 32;  // sizeof(Header)

constexpr uint64_t RoundUp(uint64_t bytes) { return (bytes + kUnit - 1) / kUnit * kUnit; }

// Guards against torn and misplaced bytes, not against malice. Each round is a bijection of the state and of the word,
// so a change within any one word always shows.
uint64_t Checksum(uint64_t step, absl::string_view bytes) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  uint64_t state = kOdd;
  const auto mix = [&state](uint64_t word) {
    state = (state ^ word) * kOdd;
    state ^= state >> 29;
  };
  mix(step);
  mix(bytes.size());
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t n = std::min(bytes.size(), sizeof(word));
    std::memcpy(&word, bytes.data(), n);
    mix(word);
    bytes.remove_prefix(n);
  }
  return state;
}

// The steady clock's own end is nearer than an infinite timeout.
SteadyTime After(absl::Duration timeout) {
  constexpr absl::Duration kLongest = absl::Hours(24 * 365);
  return steady_clock::now() + absl::ToChronoNanoseconds(std::clamp(timeout, absl::ZeroDuration(), kLongest));
}

}  // namespace

PlanRing::PlanRing(std::shared_ptr<GroupMember> member, absl::Duration publish_timeout)
    : member_(std::move(member)),
      publish_timeout_(absl::ToChronoNanoseconds(publish_timeout)),
      ring_bytes_(member_->memory().shape().ring_bytes) {
  static_assert(sizeof(Header) == kUnit);
  CHECK_EQ(ring_bytes_ % kUnit, 0u);
}

uint64_t PlanRing::max_message_bytes() const { return ring_bytes_ - kUnit; }

void PlanRing::CopyIn(uint64_t position, const void* from, uint64_t bytes) {
  const uint64_t at = position % ring_bytes_;
  const uint64_t first = std::min(bytes, ring_bytes_ - at);
  std::memcpy(member_->memory().ring() + at, from, first);
  if (first < bytes) std::memcpy(member_->memory().ring(), static_cast<const char*>(from) + first, bytes - first);
}

void PlanRing::CopyOut(uint64_t position, void* to, uint64_t bytes) const {
  const uint64_t at = position % ring_bytes_;
  const uint64_t first = std::min(bytes, ring_bytes_ - at);
  std::memcpy(to, member_->memory().ring() + at, first);
  if (first < bytes) std::memcpy(static_cast<char*>(to) + first, member_->memory().ring(), bytes - first);
}

absl::Status PlanRing::Publish(uint64_t step, absl::string_view bytes) {
  CHECK_EQ(member_->rank(), 0);
  if (bytes.size() > max_message_bytes()) {
    return absl::InvalidArgumentError(absl::StrFormat("plan of step %d has %d bytes, the ring takes at most %d", step,
                                                      bytes.size(), max_message_bytes()));
  }
  if (step != next_step_) {
    return absl::FailedPreconditionError(
        absl::StrFormat("plan of step %d published, step %d is next", step, next_step_));
  }
  if (member_->memory().aborted()) return member_->Health("publishing a plan");

  const uint64_t end = position_ + kUnit + RoundUp(bytes.size());
  const auto full = [&] {
    uint32_t slow = 0;
    for (int r = 1; r < member_->size(); ++r) {
      if (end - ReadBy(r) > ring_bytes_) slow |= uint32_t{1} << r;
    }
    return slow;
  };
  if (full() != 0) {
    absl::Status status = member_->Wait("publishing a plan", steady_clock::now() + publish_timeout_, full);
    if (!status.ok()) return status;
  }

  const Header header{.step = step, .bytes = bytes.size(), .checksum = Checksum(step, bytes)};
  CopyIn(position_, &header, sizeof(header));
  if (!bytes.empty()) CopyIn(position_ + kUnit, bytes.data(), bytes.size());
  position_ = end;
  ++next_step_;
  member_->memory().ring_written().store(end, std::memory_order_seq_cst);
  member_->WakeOthers();
  return absl::OkStatus();
}

absl::StatusOr<PlanRing::Received> PlanRing::Next(absl::Duration timeout) {
  CHECK_NE(member_->rank(), 0);
  const std::atomic<uint64_t>& written = member_->memory().ring_written();
  if (member_->memory().aborted()) return member_->Health("waiting for a plan");

  // A plan needs every rank, so the end of any of them is the end of the wait.
  absl::StatusOr<bool> ready = member_->WaitUntil("waiting for a plan", After(timeout), [&]() -> uint32_t {
    const bool done = woken_.load(std::memory_order_seq_cst) || written.load(std::memory_order_seq_cst) != position_;
    return done ? 0 : member_->everyone_else();
  });
  if (!ready.ok()) return ready.status();
  if (!*ready) return Received{Received::kTimedOut};
  if (woken_.exchange(false, std::memory_order_seq_cst)) return Received{Received::kWoken};

  absl::StatusOr<Received> received = Take(written.load(std::memory_order_seq_cst) - position_);
  if (!received.ok()) return member_->Fail(received.status());
  return received;
}

absl::StatusOr<PlanRing::Received> PlanRing::Take(uint64_t available) {
  if (available < kUnit || available > ring_bytes_) {
    return absl::DataLossError(absl::StrFormat("plan ring: step %d expected, %d bytes are there in a ring of %d",
                                               next_step_, available, ring_bytes_));
  }
  Header header;
  CopyOut(position_, &header, sizeof(header));
  if (header.bytes > available - kUnit || RoundUp(header.bytes) > available - kUnit) {
    return absl::DataLossError(absl::StrFormat("plan ring: step %d expected, its message claims %d bytes, %d are there",
                                               next_step_, header.bytes, available - kUnit));
  }
  message_.resize(header.bytes);
  if (header.bytes > 0) CopyOut(position_ + kUnit, message_.data(), header.bytes);
  const absl::string_view bytes(message_.data(), message_.size());
  if (header.checksum != Checksum(header.step, bytes)) {
    return absl::DataLossError(absl::StrFormat("plan ring: step %d expected, the message of step %d fails its checksum",
                                               next_step_, header.step));
  }
  if (header.step != next_step_) {
    return absl::FailedPreconditionError(
        absl::StrFormat("plan ring: step %d expected, step %d came", next_step_, header.step));
  }
  position_ += kUnit + RoundUp(header.bytes);
  ++next_step_;
  member_->memory().rank(member_->rank()).ring_read.store(position_, std::memory_order_seq_cst);
  member_->Wake(0);
  return Received{Received::kMessage, header.step, bytes};
}

void PlanRing::WakeSelf() {
  woken_.store(true, std::memory_order_seq_cst);
  member_->Wake(member_->rank());
}

}  // namespace tandem::worker
