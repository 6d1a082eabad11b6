#include "placement/planner/bus_bandwidth.h"

#include <algorithm>
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
}

TEST(BusBandwidthTest, AllOfADgx1TakeThreeRingsEachWayWhereGreedyFindsTwo) {
  const Ring ring = BestRing(Dgx1V(), {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(ring.mbps, 120'000);
  EXPECT_EQ(ring.rings, 6);
  EXPECT_TRUE(ring.exact);
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

}  // namespace
}  // namespace tandem::placement
