#include "placement/topology/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace tandem::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Link LinkOf(absl::string_view word) {
  Link link;
  if (word == "X") return {PathKind::kSelf};
  if (word.substr(0, 2) == "NV") {
    link.kind = PathKind::kNvLink;
    EXPECT_TRUE(absl::SimpleAtoi(word.substr(2), &link.nvlinks));
    return link;
  }
  for (const PathKind kind : {PathKind::kPix, PathKind::kPxb, PathKind::kPhb, PathKind::kNode, PathKind::kSys}) {
    if (word == Word(kind)) link.kind = kind;
  }
  return link;
}

// Rows of words, and the NUMA node of each.
Host HostOf(absl::string_view chip, const std::vector<const char*>& rows, const std::vector<int>& numa) {
  Host host;
  host.name = "box";
  for (size_t i = 0; i < rows.size(); ++i) {
    Device device;
    device.chip = FindChip(chip);
    device.numa = numa[i];
    host.devices.push_back(device);
    for (const absl::string_view word : absl::StrSplit(rows[i], ' ')) host.links.push_back(LinkOf(word));
  }
  Complete(host);
  const absl::Status valid = Validate(host);
  EXPECT_TRUE(valid.ok()) << valid.ToString();
  return host;
}

TEST(CompleteTest, ARowWithMoreLinksThanTheChipHasIsASwitch) {
  const Host host = HostOf("A100", {"X NV12 NV12", "NV12 X NV12", "NV12 NV12 X"}, {0, 0, 1});
  EXPECT_EQ(host.link(0, 1).kind, PathKind::kNvSwitch);
  EXPECT_EQ(host.link(0, 2).mbps, 240'000);
  EXPECT_EQ(Label(host.link(0, 2)), "NV12");
}

TEST(CompleteTest, ATrayOfAThirdOfTheLinksEachIsAMesh) {
  const Host host = HostOf("H100", {"X NV6 NV6 NV6", "NV6 X NV6 NV6", "NV6 NV6 X NV6", "NV6 NV6 NV6 X"}, {3, 1, 7, 5});
  EXPECT_EQ(host.link(0, 3).kind, PathKind::kNvLink);
  EXPECT_EQ(host.link(0, 3).mbps, 6 * 20'600);
}

TEST(CompleteTest, ASwitchWithoutACountHasAllLinksOfTheChip) {
  Host host;
  host.devices.assign(2, Device{.chip = FindChip("H200")});
  host.links = {{PathKind::kSelf}, {PathKind::kNvSwitch}, {PathKind::kNvSwitch}, {PathKind::kSelf}};
  Complete(host);
  EXPECT_EQ(Label(host.link(1, 0)), "NV18");
  EXPECT_EQ(host.link(1, 0).mbps, 18 * 20'600);
}

TEST(CompleteTest, SysWithinOneNodeIsAsFastAsPcie) {
  const Host host = HostOf("RTX4090", {"X SYS SYS", "SYS X SYS", "SYS SYS X"}, {0, 0, 1});
  EXPECT_EQ(host.link(0, 1).mbps, 24'000);
  EXPECT_EQ(host.link(0, 2).mbps, 22'000);
  ASSERT_EQ(host.edges.size(), 1u);
  EXPECT_EQ(host.edges[0].name, "socket link");
  EXPECT_EQ(host.edges[0].mbps, 22'000);
  EXPECT_THAT(host.edges[0].side, ElementsAre(0, 0, 1));
}

TEST(CompleteTest, SysOfUnknownNodesCountsAsTheWayBetweenSockets) {
  const Host host = HostOf("V100", {"X SYS", "SYS X"}, {-1, -1});
  EXPECT_EQ(host.link(0, 1).mbps, 10'000);
  EXPECT_THAT(host.edges, IsEmpty());
}

TEST(CompleteTest, WithoutNumaTheSocketsAreWhatSysSeparates) {
  const Host host =
      HostOf("K80", {"X PIX SYS SYS", "PIX X SYS SYS", "SYS SYS X PHB", "SYS SYS PHB X"}, {-1, -1, -1, -1});
  ASSERT_EQ(host.edges.size(), 2u);
  EXPECT_EQ(host.edges[0].name, "uplink of the switch of 0,1");
  EXPECT_EQ(host.edges[0].mbps, 12'000);
  EXPECT_THAT(host.edges[0].side, ElementsAre(1, 1, 0, 0));
  EXPECT_EQ(host.edges[1].name, "socket link");
  EXPECT_THAT(host.edges[1].side, ElementsAre(0, 0, 1, 1));
}

TEST(CompleteTest, ATreeOfSwitchesHasAnUplinkPerLevel) {
  const Host host = HostOf(
      "A40",
      {"X PIX PXB PXB NODE", "PIX X PXB PXB NODE", "PXB PXB X PIX NODE", "PXB PXB PIX X NODE", "NODE NODE NODE NODE X"},
      {0, 0, 0, 0, 0});
  ASSERT_EQ(host.edges.size(), 3u);
  EXPECT_THAT(host.edges[0].side, ElementsAre(1, 1, 0, 0, 0));
  EXPECT_THAT(host.edges[1].side, ElementsAre(0, 0, 1, 1, 0));
  EXPECT_THAT(host.edges[2].side, ElementsAre(1, 1, 1, 1, 0));
}

TEST(CompleteTest, FourNodesHaveAnEdgeEach) {
  const Host host =
      HostOf("A100", {"X NV12 SYS SYS", "NV12 X SYS SYS", "SYS SYS X NV12", "SYS SYS NV12 X"}, {0, 1, 2, 3});
  ASSERT_EQ(host.edges.size(), 4u);
  EXPECT_THAT(host.edges[2].side, ElementsAre(0, 0, 1, 0));
  EXPECT_EQ(host.link(0, 1).mbps, 240'000);
}

TEST(CompleteTest, AKnownCpuSetsTheRateBetweenSockets) {
  Host host = HostOf("A100", {"X SYS", "SYS X"}, {0, 1});
  for (Link& link : host.links) link.mbps = 0;
  Complete(host, 16'000);
  EXPECT_EQ(host.link(0, 1).mbps, 16'000);
  EXPECT_EQ(host.edges.at(0).mbps, 16'000);
}

TEST(CompleteTest, ASecondTimeChangesNothing) {
  Host host = HostOf("K80", {"X PIX SYS SYS", "PIX X SYS SYS", "SYS SYS X PIX", "SYS SYS PIX X"}, {0, 0, 1, 1});
  const size_t edges = host.edges.size();
  Complete(host);
  EXPECT_EQ(host.edges.size(), edges);
  EXPECT_EQ(host.link(0, 2).mbps, 10'000);
}

TEST(ValidateTest, NamesTheFirstThingThatIsWrong) {
  const Host good = HostOf("A100", {"X NV4", "NV4 X"}, {0, 0});
  const auto said = [&](auto&& spoil) {
    Host host = good;
    spoil(host);
    return std::string(Validate(host).message());
  };
  EXPECT_THAT(said([](Host& h) { h.devices.clear(); }), HasSubstr("no devices"));
  EXPECT_THAT(said([](Host& h) { h.links.pop_back(); }), HasSubstr("3 links for 2 devices"));
  EXPECT_THAT(said([](Host& h) { h.link(0, 1).nvlinks = 3; }), HasSubstr("is NV3 (80000 MB/s), the one back NV4"));
  EXPECT_THAT(said([](Host& h) { h.link(0, 1).kind = PathKind::kSelf; }), HasSubstr("between 0 and 1 is X"));
  EXPECT_THAT(said([](Host& h) { h.link(0, 1).nvlinks = 999; }), HasSubstr("NV999"));
  EXPECT_THAT(said([](Host& h) {
                h.link(0, 1).mbps = -1;
                h.link(1, 0).mbps = -1;
              }),
              HasSubstr("-1 MB/s"));
  EXPECT_THAT(said([](Host& h) { h.devices[1].numa = -2; }), HasSubstr("NUMA node -2"));
  EXPECT_THAT(said([](Host& h) { h.devices[1].chip = nullptr; }), HasSubstr("no chip"));
  EXPECT_THAT(said([](Host& h) { h.devices[0].memory_used = -5; }), HasSubstr("negative memory"));
  EXPECT_THAT(said([](Host& h) { h.devices[0].uuid = h.devices[1].uuid = "GPU-1"; }), HasSubstr("UUID GPU-1"));
  EXPECT_THAT(said([](Host& h) { h.edges.push_back({"edge", 5, {0}}); }), HasSubstr("sides for 1 of 2"));
  EXPECT_THAT(said([](Host& h) { h.edges.push_back({"edge", 0, {0, 1}}); }), HasSubstr("edge has 0 MB/s"));
}

TEST(ValidateTest, NvLinkNeedsAChipThatHasSome) {
  Host host;
  host.devices.assign(2, Device{.chip = FindChip("T4")});
  host.links = {{PathKind::kSelf}, {PathKind::kNvLink, 4}, {PathKind::kNvLink, 4}, {PathKind::kSelf}};
  Complete(host);
  EXPECT_THAT(std::string(Validate(host).message()), HasSubstr("but T4 has none"));
}

void Measure(Host& host, int a, int b, int64_t mbps) {
  host.link(a, b).measured.mbps = host.link(b, a).measured.mbps = mbps;
}

TEST(LinkConflictsTest, ALabelThatMeasurementContradictsIsNamed) {
  Host host = HostOf("RTX3090", {"X PIX PHB", "PIX X PHB", "PHB PHB X"}, {0, 0, 0});
  EXPECT_THAT(LinkConflicts(host), IsEmpty());
  Measure(host, 0, 1, 16'000);
  Measure(host, 0, 2, 22'000);
  EXPECT_THAT(LinkConflicts(host),
              ElementsAre("device 0 and device 2: PHB was measured at 22.0 GB/s, faster than the PIX "
                          "of device 0 and device 1 at 16.0 GB/s"));
  EXPECT_EQ(host.link(0, 2).Rate(), 22'000);
}

TEST(LinkConflictsTest, LessThanHalfOfThePromiseIsOne) {
  Host host = HostOf("A100", {"X NV4", "NV4 X"}, {0, 0});
  Measure(host, 0, 1, 39'000);
  EXPECT_THAT(LinkConflicts(host),
              ElementsAre("device 0 and device 1: NV4 promises 80.0 GB/s, measured were 39.0 GB/s"));
  Measure(host, 0, 1, 41'000);
  EXPECT_THAT(LinkConflicts(host), IsEmpty());
}

}  // namespace
}  // namespace tandem::placement
