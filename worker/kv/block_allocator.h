// A BlockAllocator gives out the blocks of one KV pool, and remembers which free ones still hold a prefix worth
// reusing.
//
// A block is in one of three states:
//
//     used     one or more sequences hold it (its reference count); never given out
//     cached   nobody holds it, but its contents answer to a prefix hash: given out last, oldest first
//     plain    nobody holds it and nothing in it is worth keeping: given out first
//
// Only a full block has a hash, and the hash chains over everything before it (DESIGN 17), so two blocks of one hash
// hold the same keys and values and may be exchanged. One block answers to a hash; a second one computed meanwhile
// stays nameless. Callers release a sequence's blocks from its end, so that a chain is eaten from its tail: the head of
// a prompt, which most others share, is the last to go.
//
// Pure bookkeeping: no memory of keys and values, no clock, no thread of its own. All operations are O(1). Its use is
// the engine thread's.
#ifndef TANDEM_WORKER_KV_BLOCK_ALLOCATOR_H_
#define TANDEM_WORKER_KV_BLOCK_ALLOCATOR_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// First 16 bytes of the chained SHA-256 over all tokens up to the end of a block.
using BlockHash = std::array<uint8_t, 16>;

class BlockAllocator {
 public:
  // What became of the cache's landmarks since the last TakeChanges, for the scheduler's view of it. Net: a hash that
  // was stored and evicted in between, or the other way round, is in neither list. In the order of the hashes.
  struct Changes {
    std::vector<BlockHash> stored;
    std::vector<BlockHash> evicted;
    bool empty() const { return stored.empty() && evicted.empty(); }
  };

  explicit BlockAllocator(int32_t num_blocks);

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t free_blocks() const { return plain_.size + cached_.size; }  // Plain and cached: all that can be given out.
  int32_t cached_blocks() const { return cached_.size; }

  // A block with one reference and no hash, or nothing if all are used. May evict the oldest cached block.
  std::optional<BlockId> Allocate();

  // The block that answers to `hash`, with one reference more; or nothing.
  std::optional<BlockId> Acquire(const BlockHash& hash);

  // Whether a block answers to `hash`, and whether it is free: taking it would then lower free_blocks() by one.
  struct Found {
    BlockId block;
    bool free;
  };
  std::optional<Found> Find(const BlockHash& hash) const;

  // Says that `block` is full and holds the prefix of `hash`. Without effect if another block answers to it already.
  // `landmark`: the scheduler hears of it (base/prefix_landmarks.h).
  // REQUIRES: the block is used and has no hash, unless it is this one.
  void Publish(BlockId block, const BlockHash& hash, bool landmark);

  // Drops one reference. The last one makes the block cached, if it answers to a hash, else plain.
  // REQUIRES: the block is used.
  void Release(BlockId block);

  int32_t references(BlockId block) const;

  Changes TakeChanges();
  // All that is stored, for a scheduler that knows nothing yet; what changed before is in it and forgotten.
  Changes TakeWhole();

  // OK, or what does not add up. Linear in the pool; for tests and for debugging.
  absl::Status CheckInvariants() const;

 private:
  static constexpr BlockId kNone = -1;
  struct Block {
    int32_t references = 0;
    bool named = false;     // `hash` is set and by_hash_ leads here.
    bool landmark = false;  // of a named one
    BlockHash hash{};
    BlockId previous = kNone;  // In the list of its state; unused while used.
    BlockId next = kNone;
  };
  struct List {  // Threaded through blocks_; taken at the front, added at the back.
    BlockId front = kNone;
    BlockId back = kNone;
    int32_t size = 0;
  };

  void PushBack(List& list, BlockId block);
  void Remove(List& list, BlockId block);
  void NoteChange(const BlockHash& hash, bool stored);
  Block& at(BlockId block);

  std::vector<Block> blocks_;
  List plain_;
  List cached_;                                      // Oldest release in front.
  absl::flat_hash_map<BlockHash, BlockId> by_hash_;  // Looked up, never iterated but by CheckInvariants.
  absl::btree_map<BlockHash, bool> changes_;         // Net; true is stored.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_KV_BLOCK_ALLOCATOR_H_
