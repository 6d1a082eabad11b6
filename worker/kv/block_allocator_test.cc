#include "worker/kv/block_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace tandem::worker {
namespace {

BlockHash Hash(uint32_t name) {
  BlockHash hash{};
  for (int i = 0; i < 4; ++i) hash[i] = static_cast<uint8_t>(name >> (8 * i));
  return hash;
}

TEST(BlockAllocatorTest, GivesEachBlockOnceAndThenNothing) {
  BlockAllocator pool(3);
  std::set<BlockId> given;
  for (int i = 0; i < 3; ++i) given.insert(pool.Allocate().value());
  EXPECT_EQ(given.size(), 3u);
  EXPECT_FALSE(pool.Allocate().has_value());
  pool.Release(1);
  EXPECT_EQ(pool.Allocate(), 1);
}

TEST(BlockAllocatorTest, AReleasedPrefixIsFoundAgainUntilItIsEvicted) {
  BlockAllocator pool(2);
  BlockId a = pool.Allocate().value();
  pool.Publish(a, Hash(1), /*landmark=*/true);
  EXPECT_EQ(pool.TakeChanges().stored, std::vector<BlockHash>{Hash(1)});
  pool.Release(a);
  EXPECT_EQ(pool.cached_blocks(), 1);
  EXPECT_EQ(pool.free_blocks(), 2);

  EXPECT_EQ(pool.Acquire(Hash(1)), a);
  EXPECT_EQ(pool.cached_blocks(), 0);
  EXPECT_EQ(pool.free_blocks(), 1);
  pool.Release(a);

  EXPECT_NE(pool.Allocate(), a) << "a plain block goes before a cached one";
  EXPECT_EQ(pool.Allocate(), a);
  EXPECT_FALSE(pool.Acquire(Hash(1)).has_value());

  EXPECT_EQ(pool.TakeChanges().evicted, std::vector<BlockHash>{Hash(1)});
  EXPECT_TRUE(pool.TakeChanges().empty());
}

TEST(BlockAllocatorTest, WhatWasStoredAndEvictedBetweenTwoReportsIsNotReported) {
  BlockAllocator pool(1);
  BlockId a = pool.Allocate().value();
  pool.Publish(a, Hash(1), /*landmark=*/true);
  pool.Release(a);
  ASSERT_EQ(pool.Allocate(), a);
  EXPECT_TRUE(pool.TakeChanges().empty());
}

TEST(BlockAllocatorTest, TheTailOfAChainIsEvictedBeforeItsHead) {
  BlockAllocator pool(3);
  std::vector<BlockId> chain;
  for (uint32_t i = 0; i < 3; ++i) {
    chain.push_back(pool.Allocate().value());
    pool.Publish(chain[i], Hash(i), /*landmark=*/true);
  }
  for (auto it = chain.rbegin(); it != chain.rend(); ++it) pool.Release(*it);
  EXPECT_EQ(pool.Allocate(), chain[2]);
  EXPECT_EQ(pool.Allocate(), chain[1]);
  EXPECT_TRUE(pool.Find(Hash(0)).has_value());
}

TEST(BlockAllocatorTest, ASharedBlockIsFreeOnlyAfterTheLastRelease) {
  BlockAllocator pool(1);
  BlockId a = pool.Allocate().value();
  pool.Publish(a, Hash(7), /*landmark=*/true);
  EXPECT_FALSE(pool.Find(Hash(7))->free);
  ASSERT_EQ(pool.Acquire(Hash(7)), a);
  pool.Release(a);
  EXPECT_FALSE(pool.Allocate().has_value());
  pool.Release(a);
  EXPECT_TRUE(pool.Find(Hash(7))->free);
  EXPECT_EQ(pool.Allocate(), a);
}

TEST(BlockAllocatorTest, TheSecondBlockOfOneHashStaysNameless) {
  BlockAllocator pool(2);
  BlockId a = pool.Allocate().value();
  BlockId b = pool.Allocate().value();
  pool.Publish(a, Hash(1), /*landmark=*/true);
  pool.Publish(b, Hash(1), /*landmark=*/true);
  pool.Release(b);
  EXPECT_EQ(pool.cached_blocks(), 0);
  EXPECT_EQ(pool.Find(Hash(1))->block, a);
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(BlockAllocatorDeathTest, ADoubleReleaseIsOurOwnBug) {
  BlockAllocator pool(1);
  BlockId a = pool.Allocate().value();
  pool.Release(a);
  EXPECT_DEATH(pool.Release(a), "released twice");
}

// 100,000 random operations beside a model that only counts: nothing is lost, nothing is given out twice.
TEST(BlockAllocatorTest, RandomOperationsLoseAndDoubleNothing) {
  std::mt19937 random(20240817);
  constexpr int kBlocks = 37;
  BlockAllocator pool(kBlocks);
  std::vector<BlockId> held;        // One entry per reference.
  std::map<BlockHash, bool> known;  // By stored and evicted reports.
  std::map<BlockId, BlockHash> contents;
  for (int i = 0; i < 100000; ++i) {
    switch (random() % 4) {
      case 0: {
        std::set<BlockId> used(held.begin(), held.end());
        std::optional<BlockId> block = pool.Allocate();
        ASSERT_EQ(block.has_value(), used.size() < kBlocks);
        if (!block) break;
        ASSERT_EQ(used.count(*block), 0u) << "given out while in use";
        contents.erase(*block);
        held.push_back(*block);
        break;
      }
      case 1: {
        BlockHash hash = Hash(random() % 64);
        std::optional<BlockAllocator::Found> found = pool.Find(hash);
        std::optional<BlockId> block = pool.Acquire(hash);
        ASSERT_EQ(found.has_value(), block.has_value());
        if (!block) break;
        ASSERT_EQ(contents.at(*block), hash) << "a block answers to what it does not hold";
        held.push_back(*block);
        break;
      }
      case 2: {
        if (held.empty()) break;
        BlockId block = held[random() % held.size()];
        if (contents.count(block)) break;
        BlockHash hash = Hash(random() % 64);
        bool taken = pool.Find(hash).has_value();
        pool.Publish(block, hash, /*landmark=*/true);
        if (!taken) contents[block] = hash;
        break;
      }
      case 3: {
        if (held.empty()) break;
        size_t pick = random() % held.size();
        BlockId block = held[pick];
        held[pick] = held.back();
        held.pop_back();
        pool.Release(block);
        break;
      }
    }
    std::set<BlockId> used(held.begin(), held.end());
    ASSERT_EQ(pool.free_blocks(), kBlocks - static_cast<int>(used.size()));
    for (BlockId block : used) {
      ASSERT_EQ(pool.references(block), std::count(held.begin(), held.end(), block));
    }
    BlockAllocator::Changes changes = pool.TakeChanges();
    for (const BlockHash& hash : changes.evicted) {
      ASSERT_TRUE(known[hash]) << "evicted what was not stored";
      known[hash] = false;
    }
    for (const BlockHash& hash : changes.stored) {
      ASSERT_FALSE(known[hash]) << "stored twice";
      known[hash] = true;
    }
    if (i % 64 == 0) {
      absl::Status sound = pool.CheckInvariants();
      ASSERT_TRUE(sound.ok()) << sound << " after " << i;
    }
  }
}

}  // namespace
}  // namespace tandem::worker
