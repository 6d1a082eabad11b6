#include "placement/planner/ring_packing.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace tandem::placement {
namespace {

using Arcs = std::array<int, 25>;  // links from i to j at 5i + j

// Every directed ring over the members, as the links that it takes.
std::vector<Arcs> AllRings(const LinkCounts& links) {
  std::vector<Arcs> rings;
  std::vector<int> order(links.n);
  std::iota(order.begin(), order.end(), 0);
  do {
    std::vector<Arcs> partial = {Arcs{}};
    for (int i = 0; i < links.n; ++i) {
      const int from = order[i], to = order[(i + 1) % links.n];
      std::vector<Arcs> longer;
      for (const Arcs& arcs : partial) {
        if (links.count[from][to] > 0) {
          longer.push_back(arcs);
          ++longer.back()[5 * from + to];
          continue;
        }
        for (int through = 0; through < links.n; ++through) {
          if (links.count[from][through] == 0 || links.count[through][to] == 0) continue;
          longer.push_back(arcs);
          ++longer.back()[5 * from + through];
          ++longer.back()[5 * through + to];
        }
      }
      partial = std::move(longer);
    }
    rings.insert(rings.end(), partial.begin(), partial.end());
  } while (std::next_permutation(order.begin() + 1, order.end()));
  std::sort(rings.begin(), rings.end());
  rings.erase(std::unique(rings.begin(), rings.end()), rings.end());
  return rings;
}

// The most rings that fit what is left, by trying every one.
int Most(const std::vector<Arcs>& rings, const Arcs& left, std::map<Arcs, int>& known) {
  const auto [at, is_new] = known.try_emplace(left, 0);
  if (!is_new) return at->second;
  int most = 0;
  for (const Arcs& ring : rings) {
    Arcs rest = left;
    bool fits = true;
    for (size_t i = 0; i < ring.size(); ++i) fits &= (rest[i] -= ring[i]) >= 0;
    if (fits) most = std::max(most, 1 + Most(rings, rest, known));
  }
  return known[left] = most;
}

int Oracle(const LinkCounts& links) {
  Arcs left{};
  for (int i = 0; i < links.n; ++i) {
    for (int j = 0; j < links.n; ++j) left[5 * i + j] = links.count[i][j];
  }
  std::map<Arcs, int> known;
  return Most(AllRings(links), left, known);
}

LinkCounts Uniform(int n, int count) {
  LinkCounts links{.n = n};
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) links.count[i][j] = static_cast<int16_t>(i == j ? 0 : count);
  }
  return links;
}

TEST(RingPackingTest, PacksAsManyAsTryingEveryRingDoes) {
  std::mt19937 random(1);
  int below_bound = 0;
  for (int trial = 0; trial < 150; ++trial) {
    LinkCounts links{.n = 3 + trial % 3};
    const int most = links.n == 5 ? 1 : 3;
    for (int i = 0; i < links.n; ++i) {
      for (int j = 0; j < i; ++j) links.count[i][j] = links.count[j][i] = static_cast<int16_t>(random() % (most + 1));
    }
    const Packing packing = PackRings(links);
    ASSERT_TRUE(packing.exact) << "trial " << trial;
    ASSERT_EQ(packing.rings, Oracle(links)) << "trial " << trial;
    ASSERT_LE(packing.rings, packing.bound);
    ASSERT_EQ(packing.order.size(), packing.rings > 0 ? links.n : 0u);
    below_bound += packing.rings < packing.bound;
  }
  // Else the bound alone would have passed this test.
  EXPECT_GT(below_bound, 5);
}

TEST(RingPackingTest, AMeshUsesEveryLinkExceptAnOddOneOfFour) {
  EXPECT_EQ(PackRings(Uniform(3, 1)).rings, 2);
  EXPECT_EQ(PackRings(Uniform(4, 2)).rings, 6);
  EXPECT_EQ(PackRings(Uniform(5, 1)).rings, 4);
  EXPECT_EQ(PackRings(Uniform(8, 1)).rings, 7);
  // Twelve links in one direction each, but no three rings that share none.
  EXPECT_EQ(PackRings(Uniform(4, 1)).rings, 2);
  EXPECT_EQ(Oracle(Uniform(4, 1)), 2);
  EXPECT_EQ(PackRings(Uniform(4, 3)).rings, 8);
}

TEST(RingPackingTest, SixInAMeshEndEvenIfUnproven) {
  const Packing packing = PackRings(Uniform(6, 1));
  EXPECT_EQ(packing.rings, 4);
  EXPECT_EQ(packing.bound, 5);
}

TEST(RingPackingTest, AMemberWithoutLinksHasNoRing) {
  LinkCounts links = Uniform(4, 2);
  for (int i = 0; i < 4; ++i) links.count[i][3] = links.count[3][i] = 0;
  const Packing packing = PackRings(links);
  EXPECT_EQ(packing.rings, 0);
  EXPECT_TRUE(packing.order.empty());
  EXPECT_TRUE(packing.exact);
}

TEST(RingPackingTest, AChainGoesBackThroughItsMiddle) {
  LinkCounts links{.n = 3};
  links.count[0][1] = links.count[1][0] = 2;
  links.count[1][2] = links.count[2][1] = 2;
  const Packing packing = PackRings(links);
  EXPECT_EQ(packing.rings, 2);
}

}  // namespace
}  // namespace tandem::placement
