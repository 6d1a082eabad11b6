// GroupMemory is the shared memory of one group of one host, seen by one rank.
//
//     page 0..   GroupHeader: what this is, the abort cell, one RankCell per rank
//     slots      for each rank two halves of `slot_bytes`: where it lays what its peers shall read
//     ring       `ring_bytes` of step plans, written by rank 0
//
// Who writes what: rank 0 formats the header before anyone else sees it. A rank writes its own RankCell and slots. Rank
// 0 writes the ring. Everyone may raise the abort cell and ring a doorbell. All words that change are atomics; slots
// and ring are plain bytes, ordered by `arrived` and `ring_written`.
#ifndef TANDEM_WORKER_COMM_GROUP_MEMORY_H_
#define TANDEM_WORKER_COMM_GROUP_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/comm/doorbell.h"
#include "worker/comm/group_identity.h"
#include "worker/comm/shared_region.h"

namespace tandem::worker {

// Two lines: the adjacent-line prefetcher pulls pairs.
inline constexpr size_t kLine = 128;

struct GroupShape {
  uint32_t ranks = 0;
  uint64_t slot_bytes = 512 << 10;  // Of one half. Larger pieces wait less often; this much still fits an L2.
  uint64_t ring_bytes = 4 << 20;

  friend bool operator==(const GroupShape&, const GroupShape&) = default;
};

// The size of the region, or INVALID_ARGUMENT where a part is out of its limits.
absl::StatusOr<uint64_t> RegionBytes(const GroupShape& shape);

// The first abort wins; its reason stays.
struct AbortCell {
  static constexpr size_t kMaxReason = 400;
  enum State : uint32_t { kNone = 0, kWriting = 1, kSet = 2 };

  std::atomic<uint32_t> state;
  uint32_t rank;
  uint32_t reason_bytes;
  char reason[kMaxReason];
};

struct RankCell {
  alignas(kLine) std::atomic<uint64_t> arrived;    // The last phase whose data this rank has laid out.
  alignas(kLine) std::atomic<uint64_t> ring_read;  // Bytes of the ring that this rank has taken, ever.
  alignas(kLine) Doorbell doorbell;
};

struct GroupHeader {
  uint64_t magic;
  uint64_t group_id;
  uint64_t epoch_leader;
  uint32_t epoch_counter;
  GroupShape shape;
  alignas(kLine) AbortCell abort;
  alignas(kLine) std::atomic<uint64_t> ring_written;  // Bytes ever.
  RankCell ranks[kMaxRanks];
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);

class GroupMemory {
 public:
  // Rank 0: makes and formats a region.
  static absl::StatusOr<GroupMemory> Create(const GroupShape& shape, uint64_t group_id, GroupEpoch epoch);

  // The others: maps the region behind `fd` and checks that it is the one that was announced.
  static absl::StatusOr<GroupMemory> Open(UniqueFd fd, const GroupShape& shape, uint64_t group_id, GroupEpoch epoch);

  const GroupShape& shape() const { return shape_; }
  int size() const { return static_cast<int>(shape_.ranks); }
  int fd() const { return region_.fd(); }

  RankCell& rank(int r) const { return header()->ranks[r]; }
  std::atomic<uint64_t>& ring_written() const { return header()->ring_written; }
  uint8_t* slot(int r, uint64_t phase) const;
  uint8_t* ring() const { return region_.data() + ring_offset_; }

  bool aborted() const { return header()->abort.state.load(std::memory_order_seq_cst) != AbortCell::kNone; }
  // "rank 1: device lost"; empty unless aborted(). Waits for a reason that is being written, 100 ms at most.
  std::string abort_reason() const;
  void Abort(int by_rank, absl::string_view reason);  // Wakes everyone. Idempotent, from any thread.

 private:
  GroupMemory(SharedRegion region, const GroupShape& shape);
  GroupHeader* header() const { return reinterpret_cast<GroupHeader*>(region_.data()); }

  SharedRegion region_;
  GroupShape shape_;  // A private copy: what stands in shared memory is not trusted twice.
  uint64_t ring_offset_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_GROUP_MEMORY_H_
