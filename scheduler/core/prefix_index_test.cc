#include "scheduler/core/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace tandem::core {
namespace {

constexpr size_t kNoLimit = 1 << 20;
constexpr GroupId kA{1}, kB{2}, kC{3};

std::vector<std::pair<GroupId, int64_t>> Found(const PrefixIndex& index, std::vector<uint64_t> landmarks) {
  std::vector<std::pair<GroupId, int64_t>> found;
  for (const PrefixIndex::Match& match : index.Find(landmarks)) found.push_back({match.group, match.tokens.value});
  return found;
}

TEST(PrefixIndex, EachGroupHoldsWhatItsLastLandmarkSays) {
  PrefixIndex index;
  for (uint64_t landmark : {10, 20, 30, 40, 60}) index.Store(landmark, kA, kNoLimit);
  for (uint64_t landmark : {10, 20}) index.Store(landmark, kB, kNoLimit);
  EXPECT_THAT(Found(index, {10, 20, 30, 40, 60, 80}), testing::ElementsAre(std::pair(kB, 64), std::pair(kA, 384)));
  EXPECT_THAT(Found(index, {10, 21}), testing::ElementsAre(std::pair(kB, 32), std::pair(kA, 32)))
      << "of equals the older last: it is the one that is taken";
  EXPECT_THAT(Found(index, {11, 20}), testing::IsEmpty()) << "another beginning";
  EXPECT_THAT(Found(index, {}), testing::IsEmpty());
}

TEST(PrefixIndex, WhatRunsCountsUntilItEnds) {
  PrefixIndex index;
  const std::vector<uint64_t> prompt = {1, 2, 3};
  index.Pin(prompt, kA);
  index.Pin(prompt, kA);
  index.Store(1, kA, kNoLimit);
  index.Unpin(prompt, kA);
  EXPECT_THAT(Found(index, prompt), testing::ElementsAre(std::pair(kA, 128)));
  index.Unpin(prompt, kA);
  EXPECT_THAT(Found(index, prompt), testing::ElementsAre(std::pair(kA, 32))) << "the engine said so";
  index.Evict(1, kA);
  EXPECT_TRUE(index.empty());
}

TEST(PrefixIndex, SaysHowMuchOthersPin) {
  PrefixIndex index;
  EXPECT_EQ(index.Pin(std::vector<uint64_t>{1, 2, 3}, kA), Tokens{0});
  EXPECT_EQ(index.Pin(std::vector<uint64_t>{1, 2, 30, 40}, kA), Tokens{64}) << "four blocks";
  EXPECT_EQ(index.Pin(std::vector<uint64_t>{1, 2, 3}, kB), Tokens{0}) << "another group";
  index.Store(4, kA, kNoLimit);
  const auto matches = index.Find(std::vector<uint64_t>{1, 2, 3, 4});
  ASSERT_EQ(matches.size(), 2u);
  EXPECT_EQ(matches[1].tokens, Tokens{256});
  EXPECT_EQ(matches[1].pinned, Tokens{128}) << "of which the last landmark is only stored";
  EXPECT_EQ(index.Unpin(std::vector<uint64_t>{1, 2, 3}, kA), Tokens{64});
  EXPECT_EQ(index.Unpin(std::vector<uint64_t>{1, 2, 30, 40}, kA), Tokens{0});
}

TEST(PrefixIndex, AFullOneTakesNoReportsAndAllPins) {
  PrefixIndex index;
  EXPECT_TRUE(index.Store(1, kA, 1));
  EXPECT_FALSE(index.Store(2, kA, 1));
  EXPECT_TRUE(index.Store(1, kA, 1)) << "it is known";
  const std::vector<uint64_t> prompt = {5, 6};
  index.Pin(prompt, kB);
  EXPECT_EQ(index.size(), 3u);
  EXPECT_TRUE(index.Store(5, kB, 1)) << "takes no room";
  index.Unpin(prompt, kB);
  EXPECT_EQ(index.size(), 2u);
}

// Against sets that are searched one by one.
TEST(PrefixIndex, IsWhatAPlainListSays) {
  std::mt19937 random(7);
  PrefixIndex index;
  struct Entry {
    uint64_t landmark;
    GroupId group;
    auto operator<=>(const Entry&) const = default;
  };
  std::map<Entry, std::pair<bool, int>> plain;  // stored, pins
  const auto clean = [&] {
    std::erase_if(plain, [](const auto& e) { return !e.second.first && e.second.second == 0; });
  };
  for (int step = 0; step < 20000; ++step) {
    const GroupId group = std::array{kA, kB, kC}[random() % 3];
    const uint64_t landmark = random() % 12;
    switch (random() % 8) {
      case 0:
        index.Evict(landmark, group);
        if (plain.contains({landmark, group})) plain[{landmark, group}].first = false;
        break;
      case 1:
        if (random() % 20 != 0) break;
        index.ForgetStored(group);
        for (auto& [entry, what] : plain) {
          if (entry.group == group) what.first = false;
        }
        break;
      case 2:
      case 3: {
        const std::vector<uint64_t> one = {landmark};
        if (random() % 2 == 0) {
          index.Pin(one, group);
          ++plain[{landmark, group}].second;
        } else if (plain.contains({landmark, group}) && plain[{landmark, group}].second > 0) {
          index.Unpin(one, group);
          --plain[{landmark, group}].second;
        }
        break;
      }
      default:
        index.Store(landmark, group, kNoLimit);
        plain[{landmark, group}].first = true;
    }
    clean();
    ASSERT_EQ(index.size(), plain.size()) << step;
    const uint64_t first = random() % 12;
    const std::vector<uint64_t> prompt = {first, (first + 1) % 12, (first + 2) % 12};
    std::map<GroupId, int64_t> expected;
    for (size_t i = 0; i < prompt.size(); ++i) {
      bool any = false;
      for (const auto& [entry, what] : plain) {
        if (entry.landmark == prompt[i]) expected[entry.group] = 32 << i, any = true;
      }
      if (!any) break;
    }
    const auto found = Found(index, prompt);
    ASSERT_EQ((std::map<GroupId, int64_t>(found.begin(), found.end())), expected) << step;
    ASSERT_TRUE(std::is_sorted(found.begin(), found.end(), [](auto& a, auto& b) { return a.second < b.second; }));
  }
}

}  // namespace
}  // namespace tandem::core
