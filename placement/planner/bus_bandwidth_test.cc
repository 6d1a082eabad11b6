#include "placement/planner/bus_bandwidth.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "placement/planner/test_hosts.h"

namespace tandem::placement {
namespace {

using ::testing::ElementsAre;

int64_t Mbps(const Host& host, const std::vector<int>& members) {
  const Ring ring = BestRing(host, members);
  EXPECT_TRUE(ring.exact);
  return ring.mbps;
}

TEST(BusBandwidthTest, Dgx1PairsHaveWhatTheirLinksHave) {
  const Host host = Dgx1V();
  EXPECT_EQ(Mbps(host, {0, 3}), 40'000);
  EXPECT_EQ(Mbps(host, {0, 1}), 20'000);
  EXPECT_EQ(Mbps(host, {0, 5}), 10'000);
  EXPECT_EQ(BestRing(host, {3, 0}).bottleneck, "NV2 between 0 and 3");
  EXPECT_EQ(BestRing(host, {3, 0}).hop, HopClass::kNvLink);
}

TEST(BusBandwidthTest, Dgx1QuadsByTheRingsThatFit) {
  const Host host = Dgx1V();
  EXPECT_EQ(Mbps(host, {0, 1, 2, 3}), 80'000);
  EXPECT_EQ(Mbps(host, {4, 5, 6, 7}), 80'000);
  // Two rings of the square, and a third one that goes through members where one NVLink is all there is.
  const Ring square = BestRing(host, {0, 3, 4, 7});
  EXPECT_EQ(square.mbps, 60'000);
  EXPECT_EQ(square.rings, 3);
  EXPECT_THAT(square.order, ElementsAre(0, 3, 7, 4));
  EXPECT_EQ(square.bottleneck, "the 3 NVLinks from 3 to 0,4,7");
}

TEST(BusBandwidthTest, AllOfADgx1TakeThreeRingsEachWayWhereGreedyFindsTwo) {
  const Ring ring = BestRing(Dgx1V(), {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(ring.mbps, 120'000);
  EXPECT_EQ(ring.rings, 6);
  EXPECT_TRUE(ring.exact);
}

TEST(BusBandwidthTest, NoSetOfADgx1IsCutShort) {
  const Host host = Dgx1V();
  for (int set = 1; set < 256; ++set) {
    std::vector<int> members;
    for (int i = 0; i < 8; ++i) {
      if ((set >> i & 1) != 0) members.push_back(i);
    }
    const Ring ring = BestRing(host, members);
    EXPECT_TRUE(ring.exact) << set;
    EXPECT_EQ(ring.order.size(), members.size()) << set;
    EXPECT_EQ(ring.crossings.size(), host.edges.size()) << set;
  }
}

TEST(BusBandwidthTest, AMemberWithoutNvLinkPutsTheGroupOnPcie) {
  const Host host = Dgx1V();
  // 5 reaches 0, 2 and 3 only through 1, which is no member.
  const Ring ring = BestRing(host, {0, 2, 3, 5});
  EXPECT_EQ(ring.mbps, 10'000);
  EXPECT_EQ(ring.hop, HopClass::kPci);
  EXPECT_EQ(ring.rings, 0);
}

TEST(BusBandwidthTest, ASmallerGroupOfAMeshHasFewerRings) {
  const Host host = UniformHost("A100", 4, "NV4");
  EXPECT_EQ(Mbps(host, {1, 2}), 80'000);
  EXPECT_EQ(Mbps(host, {0, 1, 2}), 160'000);
  EXPECT_EQ(Mbps(host, {0, 1, 2, 3}), 240'000);
  EXPECT_EQ(Mbps(UniformHost("H100", 4, "NV6"), {0, 1, 2, 3}), 370'800);
}

TEST(BusBandwidthTest, BridgedPairsAreFastAndQuadsOfThemAreNot) {
  const Host host = EightA100Pcie();
  EXPECT_EQ(Mbps(host, {0, 1}), 240'000);
  const Ring quad = BestRing(host, {0, 1, 2, 3});
  EXPECT_EQ(quad.mbps, 24'000);
  EXPECT_EQ(quad.bottleneck, "NODE between 1 and 2");
  EXPECT_EQ(Mbps(host, {0, 1, 4, 5}), 22'000);
}

TEST(BusBandwidthTest, ASwitchGivesAnySubsetAllLinks) {
  const Host host = UniformHost("H100", 8, "NV18");
  EXPECT_EQ(Mbps(host, {2, 5}), 370'800);
  EXPECT_EQ(Mbps(host, {1, 3, 5, 7}), 370'800);
  const Ring all = BestRing(host, {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(all.mbps, 370'800);
  EXPECT_EQ(all.bottleneck, "NVSwitch");
}

TEST(BusBandwidthTest, PairsOfGeforceCards) {
  EXPECT_EQ(Mbps(UniformHost("RTX3090", 2, "NV4"), {0, 1}), 48'000);
  EXPECT_EQ(Mbps(UniformHost("A10", 2, "PHB"), {0, 1}), 24'000);
}

TEST(BusBandwidthTest, OneMemberNeedsNoRing) {
  const Ring ring = BestRing(Dgx1V(), {4});
  EXPECT_EQ(ring.mbps, 0);
  EXPECT_THAT(ring.order, ElementsAre(4));
}

// A host with links of any kind but NVLink between `n` devices, and edges that part them anyhow.
Host RandomHost(std::mt19937& random, int n) {
  Host host;
  host.name = "host0";
  host.devices.resize(n);
  host.links.resize(n * n);
  constexpr PathKind kKinds[] = {PathKind::kPix, PathKind::kPhb, PathKind::kSys, PathKind::kC2c};
  for (int i = 0; i < n; ++i) {
    host.link(i, i).kind = PathKind::kSelf;
    for (int j = 0; j < i; ++j) {
      Link link;
      link.kind = kKinds[random() % 4];
      link.mbps = 6'000 * (1 + static_cast<int>(random() % 4));
      host.link(i, j) = host.link(j, i) = link;
    }
  }
  for (int e = static_cast<int>(random() % 4); e > 0; --e) {
    SharedEdge edge{.name = absl::StrCat("edge ", e), .mbps = 10'000 + static_cast<int>(random() % 30'000)};
    const bool gaps = random() % 3 == 0;
    for (int i = 0; i < n; ++i) edge.side.push_back(static_cast<int8_t>(random() % (gaps ? 3 : 2)) - (gaps ? 1 : 0));
    host.edges.push_back(edge);
  }
  return host;
}

struct Judged {
  int64_t mbps;
  int crossings;
  std::vector<int> of_edge;
};

Judged Judge(const Host& host, const std::vector<int>& order, const std::vector<int>& foreign) {
  Judged judged{std::numeric_limits<int64_t>::max(), 0, {}};
  for (size_t e = 0; e < host.edges.size(); ++e) {
    int up = 0, down = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      const int from = order[i], to = order[(i + 1) % order.size()];
      const int a = host.edges[e].side[from], b = host.edges[e].side[to];
      if (host.link(from, to).kind == PathKind::kC2c || a < 0 || b < 0) continue;
      up += a < b;
      down += a > b;
    }
    judged.crossings += up + down;
    judged.of_edge.push_back(std::max(up, down));
    if (up + down > 0) judged.mbps = std::min(judged.mbps, host.edges[e].mbps / (std::max(up, down) + foreign[e]));
  }
  for (size_t i = 0; i < order.size(); ++i) {
    judged.mbps = std::min(judged.mbps, host.link(order[i], order[(i + 1) % order.size()]).Rate());
  }
  return judged;
}

TEST(BusBandwidthTest, TheRingIsTheOneThatTryingEveryOrderFinds) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 400; ++trial) {
    const int n = 2 + trial % 6;
    const Host host = RandomHost(random, n);
    std::vector<int> foreign(host.edges.size());
    for (int& crossings : foreign) crossings = static_cast<int>(random() % 3);
    std::vector<int> order(n), best_order;
    std::iota(order.begin(), order.end(), 0);
    Judged best{-1, 0, {}};
    do {
      const Judged judged = Judge(host, order, foreign);
      if (judged.mbps < best.mbps || (judged.mbps == best.mbps && judged.crossings >= best.crossings)) continue;
      best = judged;
      best_order = order;
    } while (std::next_permutation(order.begin() + 1, order.end()));
    std::shuffle(order.begin(), order.end(), random);
    const Ring ring = BestRing(host, order, foreign);
    ASSERT_EQ(ring.mbps, best.mbps) << "trial " << trial;
    ASSERT_EQ(ring.order, best_order) << "trial " << trial;
    ASSERT_EQ(ring.crossings, best.of_edge) << "trial " << trial;
    ASSERT_TRUE(ring.exact);
    ASSERT_FALSE(ring.bottleneck.empty());
  }
}

Host Relabelled(const Host& host, const std::vector<int>& to) {
  Host other = host;
  for (int i = 0; i < host.size(); ++i) {
    other.devices[to[i]] = host.devices[i];
    for (int j = 0; j < host.size(); ++j) other.link(to[i], to[j]) = host.link(i, j);
    for (size_t e = 0; e < host.edges.size(); ++e) other.edges[e].side[to[i]] = host.edges[e].side[i];
  }
  return other;
}

TEST(BusBandwidthTest, RelabellingDevicesChangesNoBandwidth) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    Host host = trial % 4 == 0 ? Dgx1V() : trial % 4 == 1 ? EightA100Pcie() : RandomHost(random, 7);
    // Also with NVLinks that were measured, some of them slow.
    for (int i = 0; i < host.size(); ++i) {
      for (int j = 0; j < i && trial % 3 == 0; ++j) {
        const int64_t measured = host.link(i, j).mbps * (5 + static_cast<int>(random() % 6)) / 10;
        host.link(i, j).measured.mbps = host.link(j, i).measured.mbps = measured;
      }
    }
    std::vector<int> to(host.size()), members(host.size());
    std::iota(to.begin(), to.end(), 0);
    std::iota(members.begin(), members.end(), 0);
    std::shuffle(to.begin(), to.end(), random);
    std::shuffle(members.begin(), members.end(), random);
    members.resize(2 + random() % (members.size() - 1));
    std::vector<int> relabelled;
    for (const int member : members) relabelled.push_back(to[member]);
    const Ring a = BestRing(host, members), b = BestRing(Relabelled(host, to), relabelled);
    ASSERT_TRUE(a.exact && b.exact) << "trial " << trial << ", " << members.size() << " members";
    ASSERT_EQ(a.mbps, b.mbps) << "trial " << trial;
    ASSERT_EQ(a.rings, b.rings) << "trial " << trial;
    ASSERT_EQ(a.hop, b.hop) << "trial " << trial;
    ASSERT_EQ(std::accumulate(a.crossings.begin(), a.crossings.end(), 0),
              std::accumulate(b.crossings.begin(), b.crossings.end(), 0))
        << "trial " << trial;
  }
}

TEST(BusBandwidthTest, OtherGroupsTakeTheirPartOfTheSocketLink) {
  Host host = EightA100Pcie();
  ASSERT_FALSE(host.edges.empty());
  const Ring alone = BestRing(host, {1, 2, 4, 7});
  std::vector<int> foreign(host.edges.size());
  for (size_t e = 0; e < foreign.size(); ++e) foreign[e] = alone.crossings[e] * 2;
  const Ring third = BestRing(host, {1, 2, 4, 7}, foreign);
  EXPECT_EQ(third.mbps, alone.mbps / 3);
  EXPECT_THAT(third.bottleneck, testing::EndsWith("crossed by 3 rings")) << third.bottleneck;
}

TEST(BusBandwidthTest, WhatWasMeasuredCounts) {
  Host host = Dgx1V();
  host.link(0, 3).measured.mbps = host.link(3, 0).measured.mbps = 7'000;
  EXPECT_EQ(Mbps(host, {0, 3}), 7'000);
  // The square of the other links has fewer rings; the slow one is not used.
  EXPECT_EQ(Mbps(host, {0, 1, 2, 3}), 40'000);
}

TEST(BusBandwidthTest, CpuDevicesMeetInMemory) {
  const Ring ring = BestRing(UniformHost("CPU", 4, Word(PathKind::kSharedMemory)), {0, 1, 2, 3});
  EXPECT_EQ(ring.hop, HopClass::kSharedMemory);
  EXPECT_GT(ring.mbps, 0);
}

TEST(BusBandwidthTest, OverHostsTheSlowestNetworkCounts) {
  Host a = UniformHost("H100", 8, "NV18"), b = a;
  a.network_mbps = 50'000;
  b.name = "host1";
  b.network_mbps = 25'000;
  const HostPart parts[] = {{&a, {0, 1, 2, 3}}, {&b, {4, 5, 6, 7}}};
  const Ring ring = BestRingAcross(parts);
  EXPECT_EQ(ring.mbps, 25'000);
  EXPECT_EQ(ring.hop, HopClass::kNet);
  EXPECT_EQ(ring.bottleneck, "network of host1");
  EXPECT_THAT(ring.order, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  b.network_mbps = 0;
  EXPECT_EQ(BestRingAcross(parts).mbps, 1'250);
}

TEST(BusBandwidthTest, SixteenCardsAreCutShortOnlyWhereTheBoundIsMissed) {
  const Ring ring = BestRing(UniformHost("L40S", 16, "PHB"), {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
  EXPECT_TRUE(ring.exact);
  EXPECT_EQ(ring.mbps, 24'000);
  std::mt19937 random(4);
  const Host host = RandomHost(random, 16);
  std::vector<int> all(16);
  std::iota(all.begin(), all.end(), 0);
  const Ring mixed = BestRing(host, all);
  EXPECT_EQ(mixed.mbps, Judge(host, mixed.order, std::vector<int>(host.edges.size())).mbps);
}

}  // namespace
}  // namespace tandem::placement
