#include "worker/comm/shm_communicator.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/statusor.h"
#include "worker/comm/rank_sum.h"

namespace tandem::worker {
namespace {

// Up to here a second phase costs more than the bytes that it saves.
constexpr size_t kOneShotBytes = 32 << 10;

}  // namespace

ShmCommunicator::ShmCommunicator(std::shared_ptr<GroupMember> member, absl::Duration call_timeout)
    : member_(std::move(member)),
      call_timeout_(absl::ToChronoNanoseconds(call_timeout)),
      slot_bytes_(member_->memory().shape().slot_bytes) {
  CHECK_GE(member_->size(), 2);
}

absl::StatusOr<ShmCommunicator::Call> ShmCommunicator::Enter(absl::string_view action) const {
  if (member_->memory().aborted()) return member_->Health(action);
  return Call{action, std::chrono::steady_clock::now() + call_timeout_};
}

absl::Status ShmCommunicator::AwaitArrival(const Call& call, uint64_t phase) {
  GroupMemory& memory = member_->memory();
  const int ranks = size();
  return member_->Wait(call.action, call.deadline, [&memory, ranks, phase] {
    uint32_t missing = 0;
    for (int r = 0; r < ranks; ++r) {
      if (memory.rank(r).arrived.load(std::memory_order_seq_cst) < phase) missing |= uint32_t{1} << r;
    }
    return missing;
  });
}

absl::Status ShmCommunicator::BeginPhase(const Call& call) {
  absl::Status status = AwaitArrival(call, phase_);
  if (status.ok()) ++phase_;
  return status;
}

void ShmCommunicator::Publish() {
  member_->memory().rank(rank()).arrived.store(phase_, std::memory_order_seq_cst);
  member_->WakeOthers();
}

absl::Status ShmCommunicator::AwaitPeers(const Call& call) { return AwaitArrival(call, phase_); }

absl::Status ShmCommunicator::AllReduceSum(absl::Span<float> values) {
  absl::StatusOr<Call> call = Enter("all-reduce");
  if (!call.ok()) return call.status();
  const bool one_shot = size() == 2 || values.size() * sizeof(float) <= kOneShotBytes;
  const size_t piece = slot_bytes_ / sizeof(float);
  for (size_t begin = 0; begin < values.size(); begin += piece) {
    float* part = values.data() + begin;
    const size_t count = std::min(piece, values.size() - begin);
    absl::Status status = one_shot ? SumOneShot(*call, part, count) : SumTwoShots(*call, part, count);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ShmCommunicator::SumOneShot(const Call& call, float* values, size_t count) {
  if (absl::Status status = BeginPhase(call); !status.ok()) return status;
  std::memcpy(Slot<float>(rank()), values, count * sizeof(float));
  Publish();
  if (absl::Status status = AwaitPeers(call); !status.ok()) return status;
  const float* parts[kMaxRanks];
  for (int r = 0; r < size(); ++r) parts[r] = Slot<float>(r);
  parts[rank()] = values;
  SumInRankOrder(parts, size(), values, count);
  return absl::OkStatus();
}

absl::Status ShmCommunicator::SumTwoShots(const Call& call, float* values, size_t count) {
  // Whole cache lines each, so that no two ranks write one line. The last shares may be short or empty.
  const size_t line = kLine / sizeof(float);
  const size_t share = (count / size() / line + 1) * line;
  const auto begin_of = [&](int r) { return std::min(count, r * share); };
  const size_t own = begin_of(rank());
  const size_t own_end = begin_of(rank() + 1);

  if (absl::Status status = BeginPhase(call); !status.ok()) return status;
  float* slot = Slot<float>(rank());
  std::memcpy(slot, values, own * sizeof(float));
  std::memcpy(slot + own_end, values + own_end, (count - own_end) * sizeof(float));
  Publish();
  if (absl::Status status = AwaitPeers(call); !status.ok()) return status;
  const float* parts[kMaxRanks];
  for (int r = 0; r < size(); ++r) parts[r] = Slot<float>(r) + own;
  parts[rank()] = values + own;
  SumInRankOrder(parts, size(), values + own, own_end - own);

  if (absl::Status status = BeginPhase(call); !status.ok()) return status;
  std::memcpy(Slot<float>(rank()) + own, values + own, (own_end - own) * sizeof(float));
  Publish();
  if (absl::Status status = AwaitPeers(call); !status.ok()) return status;
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    std::memcpy(values + begin_of(r), Slot<float>(r) + begin_of(r), (begin_of(r + 1) - begin_of(r)) * sizeof(float));
  }
  return absl::OkStatus();
}

absl::Status ShmCommunicator::Gather(absl::Span<const float> send, absl::Span<float> receive) {
  CHECK_EQ(receive.size(), rank() == 0 ? send.size() * size() : 0);
  absl::StatusOr<Call> call = Enter("gather");
  if (!call.ok()) return call.status();
  const size_t piece = slot_bytes_ / sizeof(float);
  for (size_t begin = 0; begin < send.size(); begin += piece) {
    const size_t bytes = std::min(piece, send.size() - begin) * sizeof(float);
    if (absl::Status status = BeginPhase(*call); !status.ok()) return status;
    if (rank() != 0) {
      // Rank 0 reads while this rank goes on; the next phase but one waits for it.
      std::memcpy(Slot<float>(rank()), send.data() + begin, bytes);
      Publish();
      continue;
    }
    Publish();
    std::memcpy(receive.data() + begin, send.data() + begin, bytes);
    if (absl::Status status = AwaitPeers(*call); !status.ok()) return status;
    for (int r = 1; r < size(); ++r) std::memcpy(receive.data() + r * send.size() + begin, Slot<float>(r), bytes);
  }
  return absl::OkStatus();
}

absl::Status ShmCommunicator::AllGather(absl::Span<const uint8_t> send, absl::Span<uint8_t> receive) {
  CHECK_EQ(receive.size(), send.size() * size());
  absl::StatusOr<Call> call = Enter("all-gather");
  if (!call.ok()) return call.status();
  for (size_t begin = 0; begin < send.size(); begin += slot_bytes_) {
    const size_t bytes = std::min(slot_bytes_, send.size() - begin);
    if (absl::Status status = BeginPhase(*call); !status.ok()) return status;
    std::memcpy(Slot<uint8_t>(rank()), send.data() + begin, bytes);
    Publish();
    if (absl::Status status = AwaitPeers(*call); !status.ok()) return status;
    for (int r = 0; r < size(); ++r) {
      std::memcpy(receive.data() + r * send.size() + begin, Slot<uint8_t>(r), bytes);
    }
  }
  return absl::OkStatus();
}

absl::Status ShmCommunicator::Barrier() {
  absl::StatusOr<Call> call = Enter("barrier");
  if (!call.ok()) return call.status();
  if (absl::Status status = BeginPhase(*call); !status.ok()) return status;
  Publish();
  return AwaitPeers(*call);
}

}  // namespace tandem::worker
