#include "worker/comm/group_memory.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::worker {
namespace {

constexpr uint64_t kMagic = 0x3130706d65646e74;  // "tndemp01"; the digits are the layout's version.
constexpr uint64_t kPage = 4096;
constexpr uint64_t kMaxSlotBytes = 64 << 20;
constexpr uint64_t kMaxRingBytes = 1 << 30;
constexpr int kMostWaitForReasonMs = 100;

constexpr uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }
constexpr uint64_t kHeaderBytes = RoundUp(sizeof(GroupHeader), kPage);

absl::Status CheckPart(absl::string_view name, uint64_t bytes, uint64_t limit) {
  if (bytes == 0 || bytes > limit || bytes % kPage != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is %d, it must be a multiple of %d from %d to %d", name, bytes, kPage, kPage, limit));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> RegionBytes(const GroupShape& shape) {
  if (shape.ranks < 1 || shape.ranks > kMaxRanks) {
    return absl::InvalidArgumentError(absl::StrFormat("ranks is %d, it must be 1 to %d", shape.ranks, kMaxRanks));
  }
  if (absl::Status status = CheckPart("slot_bytes", shape.slot_bytes, kMaxSlotBytes); !status.ok()) return status;
  if (absl::Status status = CheckPart("ring_bytes", shape.ring_bytes, kMaxRingBytes); !status.ok()) return status;
  // The limits above keep this sum below 2^32, far from overflow.
  static_assert(kHeaderBytes + kMaxRanks * 2 * kMaxSlotBytes + kMaxRingBytes < uint64_t{1} << 32);
  return kHeaderBytes + shape.ranks * 2 * shape.slot_bytes + shape.ring_bytes;
}

GroupMemory::GroupMemory(SharedRegion region, const GroupShape& shape)
    : region_(std::move(region)),
      shape_(shape),
      ring_offset_(kHeaderBytes + uint64_t{shape.ranks} * 2 * shape.slot_bytes) {}

absl::StatusOr<GroupMemory> GroupMemory::Create(const GroupShape& shape, uint64_t group_id, GroupEpoch epoch) {
  absl::StatusOr<uint64_t> bytes = RegionBytes(shape);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<SharedRegion> region = SharedRegion::Create(*bytes);
  if (!region.ok()) return region.status();
  auto* header = new (region->data()) GroupHeader{};
  header->magic = kMagic;
  header->group_id = group_id;
  header->epoch_leader = epoch.leader;
  header->epoch_counter = epoch.counter;
  header->shape = shape;
  return GroupMemory(*std::move(region), shape);
}

absl::StatusOr<GroupMemory> GroupMemory::Open(UniqueFd fd, const GroupShape& shape, uint64_t group_id,
                                              GroupEpoch epoch) {
  absl::StatusOr<uint64_t> bytes = RegionBytes(shape);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<SharedRegion> region = SharedRegion::Map(std::move(fd), *bytes);
  if (!region.ok()) return region.status();
  const auto* header = reinterpret_cast<const GroupHeader*>(region->data());
  if (header->magic != kMagic) {
    return absl::FailedPreconditionError(
        absl::StrFormat("received shared memory has layout %x, this build knows %x", header->magic, kMagic));
  }
  GroupEpoch seen{header->epoch_leader, header->epoch_counter};
  if (header->group_id != group_id || seen != epoch || header->shape != shape) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "received shared memory is of group %d epoch %s with %d ranks, expected group %d epoch %s with %d ranks",
        header->group_id, seen.ToString(), header->shape.ranks, group_id, epoch.ToString(), shape.ranks));
  }
  return GroupMemory(*std::move(region), shape);
}

uint8_t* GroupMemory::slot(int r, uint64_t phase) const {
  return region_.data() + kHeaderBytes + (static_cast<uint64_t>(r) * 2 + phase % 2) * shape_.slot_bytes;
}

std::string GroupMemory::abort_reason() const {
  const AbortCell& cell = header()->abort;
  // Its author may have been put aside within the few instructions that write it; or it died there.
  for (int waited_ms = 0; cell.state.load(std::memory_order_acquire) == AbortCell::kWriting; ++waited_ms) {
    if (waited_ms == kMostWaitForReasonMs) return "a peer gave no reason";
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (cell.state.load(std::memory_order_acquire) == AbortCell::kNone) return "";
  return absl::StrCat("rank ", cell.rank, ": ",
                      absl::string_view(cell.reason, std::min<size_t>(cell.reason_bytes, AbortCell::kMaxReason)));
}

void GroupMemory::Abort(int by_rank, absl::string_view reason) {
  AbortCell& cell = header()->abort;
  uint32_t none = AbortCell::kNone;
  if (!cell.state.compare_exchange_strong(none, AbortCell::kWriting, std::memory_order_seq_cst)) return;
  cell.rank = static_cast<uint32_t>(by_rank);
  cell.reason_bytes = static_cast<uint32_t>(std::min(reason.size(), AbortCell::kMaxReason));
  std::memcpy(cell.reason, reason.data(), cell.reason_bytes);
  cell.state.store(AbortCell::kSet, std::memory_order_seq_cst);
  for (int r = 0; r < size(); ++r) rank(r).doorbell.Ring();
}

}  // namespace tandem::worker
