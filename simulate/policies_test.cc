// The rules of other routers, by worked examples.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "simulate/policy.h"

namespace tandem::simulate {
namespace {

using testing::ElementsAre;

// Blocks that are told apart by one number; equal numbers at the beginning are an equal prefix.
std::vector<PrefixHash> Blocks(const std::vector<uint8_t>& numbers) {
  std::vector<PrefixHash> prefix;
  PrefixHash chain{};
  for (size_t i = 0; i < numbers.size(); ++i) {
    chain[i % 16] = static_cast<uint8_t>(chain[i % 16] + numbers[i] * 7 + 1);
    prefix.push_back(chain);
  }
  return prefix;
}

class Caller {
 public:
  explicit Caller(std::unique_ptr<Policy> policy) : policy_(std::move(policy)) {}

  // A prompt of full blocks.
  uint32_t Send(const std::vector<uint8_t>& blocks) {
    const std::vector<PrefixHash> prefix = Blocks(blocks);
    const Arrival arrival{.request = next_++,
                          .prompt_tokens = static_cast<uint32_t>(blocks.size() * kPrefixBlockTokens),
                          .tenant = "",
                          .blocks = prefix,
                          .landmarks = {}};
    return policy_->Choose(arrival);
  }
  std::vector<uint32_t> SendMany(int count) {
    std::vector<uint32_t> groups;
    for (int i = 0; i < count; ++i) groups.push_back(Send({static_cast<uint8_t>(100 + i)}));
    return groups;
  }
  Policy& policy() { return *policy_; }

 private:
  std::unique_ptr<Policy> policy_;
  uint32_t next_ = 0;
};

TEST(RoundRobin, GoesRound) {
  Caller caller(MakeRoundRobin(3));
  EXPECT_THAT(caller.SendMany(5), ElementsAre(0, 1, 2, 0, 1));
}

TEST(LeastRequests, CountsWhatHasNotEnded) {
  Caller caller(MakeLeastRequests(3));
  EXPECT_THAT(caller.SendMany(4), ElementsAre(0, 1, 2, 0));
  caller.policy().Ended(2, 2);
  EXPECT_EQ(caller.Send({1}), 2u) << "2, 1, 0 on the way";
  EXPECT_EQ(caller.Send({1}), 1u) << "2, 1, 1: the lower of equals";
}

TEST(PowerOfTwo, NeverTakesTheFullerOfTheTwoAndDrawsByItsSeed) {
  Caller two(MakePowerOfTwo(2, 1));
  // With two groups both are always drawn, so their counts never differ by more than one.
  std::map<uint32_t, int> counts;
  for (int i = 0; i < 100; ++i) {
    ++counts[two.Send({1})];
    EXPECT_LE(std::abs(counts[0] - counts[1]), 1);
  }
  Caller a(MakePowerOfTwo(8, 5)), b(MakePowerOfTwo(8, 5)), c(MakePowerOfTwo(8, 6));
  const auto first = a.SendMany(50);
  EXPECT_EQ(first, b.SendMany(50));
  EXPECT_NE(first, c.SendMany(50));
  EXPECT_EQ(Caller(MakePowerOfTwo(1, 1)).Send({1}), 0u) << "one group is both";
}

TEST(SglangCacheAware, FollowsAPrefixOfMoreThanThreeTenths) {
  Caller caller(MakeSglangCacheAware(3));
  EXPECT_EQ(caller.Send({1, 2, 3}), 0u);
  EXPECT_EQ(caller.Send({9}), 1u) << "nothing known: the fewest requests";
  EXPECT_EQ(caller.Send({1, 2, 3, 4}), 0u) << "3 of 4 blocks are there, though it has most requests";
  EXPECT_EQ(caller.Send({1, 2, 3, 5, 5, 5, 5, 5, 5, 5}), 2u) << "3 of 10 are not more than three tenths";
  EXPECT_EQ(caller.Send({1, 2, 3, 5, 5, 5}), 2u) << "who used a block last is known to have it";
}

TEST(SglangCacheAware, GivesUpAffinityWhereLoadsAreUnbalanced) {
  Caller caller(MakeSglangCacheAware(2));
  EXPECT_EQ(caller.Send({1}), 0u);
  for (int i = 0; i < 64; ++i) EXPECT_EQ(caller.Send({1}), 0u) << i;
  EXPECT_EQ(caller.Send({1}), 1u) << "65 against 0: more than 64 apart";
  EXPECT_EQ(caller.Send({1}), 1u) << "65 against 1 is balanced again, and group 1 used it last";
}

TEST(DynamoKv, CostIsPrefillWithoutWhatIsCachedAndAllActiveBlocks) {
  Caller caller(MakeDynamoKv(2));
  // Costs of an empty fleet are equal: 4 + 4.
  EXPECT_EQ(caller.Send({1, 2, 3, 4}), 0u);
  // Group 0: prefill 4 + 1, active 4 + 1: 10. Group 1: 1 + 1.
  EXPECT_EQ(caller.Send({9}), 1u);
  // Group 0: 4 + 2 + 4 + 2 = 12; group 1: 1 + 2 + 1 + 2 = 6.
  EXPECT_EQ(caller.Send({7, 8}), 1u);
  caller.policy().FirstToken(0, 0);
  // Group 0: 0 + 3 + 4 + 3 = 10; group 1: 3 + 3 + 3 + 3 = 12.
  EXPECT_EQ(caller.Send({5, 5, 5}), 0u);
}

TEST(DynamoKv, KnowsWhatEnginesStoreAndEvict) {
  Caller caller(MakeDynamoKv(2));
  const std::vector<PrefixHash> prefix = Blocks({1, 2, 3, 4});
  caller.policy().CacheChanged(1, {.stored = prefix, .evicted = {}});
  EXPECT_EQ(caller.Send({1, 2, 3, 4}), 1u) << "0 + 4 against 4 + 4";
  // Group 1 has 4 blocks active and none in prefill, so 0 + 8 and 4 + 4 are equal: the lower.
  EXPECT_EQ(caller.Send({1, 2, 3, 4}), 0u);
  caller.policy().Ended(0, 1);
  caller.policy().Ended(1, 0);
  caller.policy().CacheChanged(1, {.stored = {}, .evicted = {prefix[0]}});
  EXPECT_EQ(caller.Send({1, 2, 3, 4}), 0u) << "without its head a chain is worth nothing";
}

}  // namespace
}  // namespace tandem::simulate
