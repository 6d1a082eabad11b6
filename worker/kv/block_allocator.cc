#include "worker/kv/block_allocator.h"

#include <glog/logging.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/plant.h"

namespace tandem::worker {

BlockAllocator::BlockAllocator(int32_t num_blocks) {
  CHECK_GE(num_blocks, 0);
  blocks_.resize(num_blocks);
  for (BlockId block = 0; block < num_blocks; ++block) PushBack(plain_, block);
}

BlockAllocator::Block& BlockAllocator::at(BlockId block) {
  CHECK(block >= 0 && block < num_blocks()) << "block " << block << " of " << num_blocks();
  return blocks_[block];
}

std::optional<BlockId> BlockAllocator::Allocate() {
  List& list = plain_.size > 0 ? plain_ : cached_;
  if (list.size == 0) return std::nullopt;
  BlockId id = list.front;
  Remove(list, id);
  Block& block = blocks_[id];
  if (block.named) {
    by_hash_.erase(block.hash);
    if (block.landmark) NoteChange(block.hash, /*stored=*/false);
    block.named = block.landmark = false;
  }
  block.references = 1;
  return id;
}

std::optional<BlockId> BlockAllocator::Acquire(const BlockHash& hash) {
  auto it = by_hash_.find(hash);
  if (it == by_hash_.end()) return std::nullopt;
  Block& block = blocks_[it->second];
  if (block.references == 0) Remove(cached_, it->second);
  ++block.references;
  return it->second;
}

std::optional<BlockAllocator::Found> BlockAllocator::Find(const BlockHash& hash) const {
  auto it = by_hash_.find(hash);
  if (it == by_hash_.end()) return std::nullopt;
  return Found{.block = it->second, .free = blocks_[it->second].references == 0};
}

void BlockAllocator::Publish(BlockId id, const BlockHash& hash, bool landmark) {
  Block& block = at(id);
  CHECK_GT(block.references, 0) << "block " << id << " is published while nobody holds it";
  if (block.named) {
    CHECK(block.hash == hash) << "block " << id << " is published under a second hash";
    return;
  }
  if (!by_hash_.try_emplace(hash, id).second) return;
  block.named = true;
  block.landmark = landmark;
  block.hash = hash;
  if (landmark) NoteChange(hash, /*stored=*/true);
}

void BlockAllocator::Release(BlockId id) {
  Block& block = at(id);
  if (kPlanted == Plant::kFreeEarly) {
    if (block.references == 0) return;
    if (block.named) block.references = 1;
  }
  CHECK_GT(block.references, 0) << "block " << id << " is released twice";
  if (--block.references == 0) PushBack(block.named ? cached_ : plain_, id);
}

int32_t BlockAllocator::references(BlockId block) const {
  CHECK(block >= 0 && block < num_blocks()) << "block " << block << " of " << num_blocks();
  return blocks_[block].references;
}

BlockAllocator::Changes BlockAllocator::TakeChanges() {
  Changes out;
  for (const auto& [hash, stored] : changes_) (stored ? out.stored : out.evicted).push_back(hash);
  changes_.clear();
  return out;
}

BlockAllocator::Changes BlockAllocator::TakeWhole() {
  changes_.clear();
  Changes out;
  for (const Block& block : blocks_) {
    if (block.named && block.landmark) out.stored.push_back(block.hash);
  }
  std::sort(out.stored.begin(), out.stored.end());
  return out;
}

void BlockAllocator::NoteChange(const BlockHash& hash, bool stored) {
  // Changes of one hash alternate, so a second one undoes the first.
  auto [it, first] = changes_.try_emplace(hash, stored);
  if (!first) changes_.erase(it);
}

void BlockAllocator::PushBack(List& list, BlockId id) {
  Block& block = blocks_[id];
  block.previous = list.back;
  block.next = kNone;
  (list.back == kNone ? list.front : blocks_[list.back].next) = id;
  list.back = id;
  ++list.size;
}

void BlockAllocator::Remove(List& list, BlockId id) {
  Block& block = blocks_[id];
  (block.previous == kNone ? list.front : blocks_[block.previous].next) = block.next;
  (block.next == kNone ? list.back : blocks_[block.next].previous) = block.previous;
  block.previous = block.next = kNone;
  --list.size;
}

absl::Status BlockAllocator::CheckInvariants() const {
  std::vector<int> listed(blocks_.size(), 0);
  for (const List* list : {&plain_, &cached_}) {
    int32_t count = 0;
    BlockId previous = kNone;
    for (BlockId id = list->front; id != kNone; id = blocks_[id].next) {
      if (++count > num_blocks()) return absl::InternalError("a free list is a circle");
      const Block& block = blocks_[id];
      ++listed[id];
      if (block.previous != previous) return absl::InternalError(absl::StrCat("block ", id, " has a wrong back link"));
      if (block.references != 0) return absl::InternalError(absl::StrCat("block ", id, " is free and used"));
      if (block.named != (list == &cached_))
        return absl::InternalError(absl::StrCat("block ", id, " is in the wrong list"));
      previous = id;
    }
    if (count != list->size || previous != list->back) {
      return absl::InternalError(absl::StrCat("a free list counts ", list->size, " and has ", count));
    }
  }
  size_t named = 0;
  for (BlockId id = 0; id < num_blocks(); ++id) {
    const Block& block = blocks_[id];
    if (block.references < 0) return absl::InternalError(absl::StrCat("block ", id, " has negative references"));
    if (listed[id] != (block.references == 0 ? 1 : 0))
      return absl::InternalError(absl::StrCat("block ", id, " is lost"));
    if (!block.named) continue;
    ++named;
    auto it = by_hash_.find(block.hash);
    if (it == by_hash_.end() || it->second != id) {
      return absl::InternalError(absl::StrCat("block ", id, " does not answer to its hash"));
    }
  }
  if (named != by_hash_.size()) {
    return absl::InternalError(absl::StrCat(by_hash_.size(), " hashes lead to ", named, " blocks"));
  }
  return absl::OkStatus();
}

}  // namespace tandem::worker
