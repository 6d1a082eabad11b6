#include "placement/files/nccl_xml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "placement/files/files_for_test.h"

namespace tandem::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

Host Read(const std::string& text, const std::string& gpu = "") {
  const absl::StatusOr<Host> host = ParseNcclXml(text, "box.xml", {gpu});
  EXPECT_TRUE(host.ok()) << host.status().ToString();
  return host.ok() ? *host : Host();
}

std::string Refused(const std::string& text, const std::string& gpu = "") {
  const absl::StatusOr<Host> host = ParseNcclXml(text, "box.xml", {gpu});
  if (host.ok()) return "was read";
  EXPECT_EQ(host.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(host.status().message());
  EXPECT_THAT(message, Not(HasSubstr("\n")));
  return message;
}

// Two behind one switch with a bridge of four links, one beside it, one on the other socket.
constexpr char kBox[] = R"(<system version="1">
  <cpu numaid="0" vendor="GenuineIntel" modelid="143">
    <pci busid="0000:01:00.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
      <pci busid="0000:02:00.0" class="0x030200" link_speed="16 GT/s" link_width="16">
        <gpu dev="0" sm="80"><nvlink target="0000:03:00.0" count="4" tclass="0x030200"/></gpu>
      </pci>
      <pci busid="0000:03:00.0" class="0x030200" link_speed="16 GT/s" link_width="16">
        <gpu dev="1" sm="80"><nvlink target="0000:02:00.0" count="4" tclass="0x030200"/></gpu>
      </pci>
      <pci busid="0000:04:00.0" class="0x030200" link_speed="16 GT/s" link_width="8">
        <gpu dev="2" sm="80"/>
      </pci>
      <pci busid="0000:05:00.0" class="0x020000" link_speed="16 GT/s" link_width="16">
        <nic><net name="mlx5_0" speed="200000"/><net name="mlx5_1" speed="-1"/></nic>
      </pci>
    </pci>
  </cpu>
  <cpu numaid="1" vendor="GenuineIntel" modelid="143">
    <pci busid="0000:81:00.0" class="0x030200" link_speed="16 GT/s" link_width="16">
      <gpu dev="3" sm="80"/>
    </pci>
  </cpu>
</system>
)";

std::string With(const std::string& from, const std::string& to) {
  const std::string text = absl::StrReplaceAll(kBox, {{from, to}});
  EXPECT_NE(text, kBox) << from;
  return text;
}

TEST(NcclXmlTest, ABoxIsRead) {
  const Host host = Read(kBox);
  ASSERT_EQ(host.size(), 4);
  EXPECT_STREQ(host.devices[0].chip->name, "A100");
  EXPECT_EQ(Shown(host, 0, 1), "NV4 80000");
  EXPECT_EQ(Shown(host, 0, 2), "PIX 12000");
  EXPECT_EQ(Shown(host, 0, 3), "SYS 22000");
  EXPECT_THAT(NumaNodes(host), ElementsAre(0, 0, 0, 1));
  EXPECT_EQ(host.devices[3].pci_bus_id, "0000:81:00.0");
  EXPECT_EQ(host.network_mbps, 25'000 + 1'250);
}

TEST(NcclXmlTest, SeveralSwitchesArePxbAndOneCpuIsPhb) {
  const Host host = Read(R"(<system><cpu numaid="0" vendor="AuthenticAMD">
    <pci busid="0:1:0.0" class="0x060400" link_speed="16 GT/s" link_width="16">
      <pci busid="0:2:0.0" class="0x060400" link_speed="16 GT/s" link_width="16">
        <pci busid="0:3:0.0" class="0x030200" link_speed="16 GT/s"/></pci>
      <pci busid="0:4:0.0" class="0x030200" link_speed="16 GT/s"/></pci>
    <pci busid="0:5:0.0" class="0x030200" link_speed="16 GT/s"/>
    </cpu><cpu numaid="1" vendor="AuthenticAMD"><pci busid="0:6:0.0" class="0x030200"/></cpu></system>)");
  EXPECT_EQ(Shown(host, 0, 1), "PXB 24000");
  EXPECT_EQ(Shown(host, 0, 2), "PHB 24000");
  EXPECT_EQ(Shown(host, 2, 3), "SYS 16000");
  EXPECT_EQ(host.devices[1].pci_bus_id, "0000:04:00.0");
}

TEST(NcclXmlTest, LinksToSwitchesAreASwitch) {
  const std::string link = R"(<nvlink target="0000:03:00.0" count="4" tclass="0x030200"/>)";
  std::string text = absl::StrReplaceAll(
      kBox, {{link, R"(<nvlink target="0000:f0:00.0" count="6" tclass="0x068000"/><nvlink target="-1" count="6"/>)"},
             {R"(<nvlink target="0000:02:00.0" count="4" tclass="0x030200"/>)",
              R"(<nvlink target="fffffff:ffff:ff" count="12" tclass="0x068000"/>)"}});
  EXPECT_EQ(Shown(Read(text), 0, 1), "NV12 switch 240000");
  EXPECT_THAT(Refused(text, "A30"), HasSubstr("has 12 NVLinks to switches, A30 has 4; name the right chip"));
}

TEST(NcclXmlTest, DevicesStandInTheOrderOfDev) {
  const Host host = Read(absl::StrReplaceAll(kBox, {{"dev=\"3\"", "dev=\"0\""}, {"dev=\"0\"", "dev=\"3\""}}));
  EXPECT_EQ(host.devices[0].pci_bus_id, "0000:81:00.0");
}

TEST(NcclXmlTest, WhatIsNotKnownIsSkippedWithAllBelow) {
  const Host host = Read(With("<nic>", "<future><gpu dev=\"9\"/></future><nic>"));
  EXPECT_EQ(host.size(), 4);
}

TEST(NcclXmlTest, FarEndsThatAreNotVisibleAreSkipped) {
  const Host host = Read(With("count=\"4\" tclass=\"0x030200\"/></gpu>\n      </pci>\n      <pci busid=\"0000:04",
                              "count=\"4\" tclass=\"0x030200\"/><nvlink target=\"0000:99:00.0\" count=\"2\"/></gpu>\n"
                              "      </pci>\n      <pci busid=\"0000:04"));
  EXPECT_EQ(Shown(host, 0, 1), "NV4 80000");
}

TEST(NcclXmlTest, DocumentTypesAndEntitiesAreRefused) {
  const std::string bomb =
      "<?xml version=\"1.0\"?>\n<!DOCTYPE system [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b "
      "\"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\">]>\n<system>&b;</system>";
  EXPECT_THAT(Refused(bomb), HasSubstr("box.xml:2: a document type"));
  EXPECT_THAT(Refused("<system>&b;</system>"), HasSubstr("box.xml:1: not XML: undefined entity"));
  EXPECT_THAT(Refused("<!DOCTYPE system SYSTEM \"/etc/passwd\"><system/>"), HasSubstr("box.xml:1: a document type"));
}

TEST(NcclXmlTest, TooDeepIsRefused) {
  std::string deep = "<system>\n";
  for (int i = 0; i < 100; ++i) absl::StrAppend(&deep, "<x>\n");
  EXPECT_THAT(Refused(deep), HasSubstr("box.xml:65: element \"x\": more than 64 levels deep"));
}

TEST(NcclXmlTest, NumbersOutOfRangeAreRefused) {
  EXPECT_THAT(Refused(With("link_width=\"8\"", "link_width=\"-8\"")),
              HasSubstr("box.xml:10: <pci> link_width=\"-8\"; expected a number from 0 to 255"));
  EXPECT_THAT(Refused(With("link_width=\"8\"", "link_width=\"128\"")), HasSubstr("at most 64 lanes"));
  EXPECT_THAT(Refused(With("link_width=\"8\"", "link_width=\"99999999999999999999\"")), HasSubstr("link_width="));
  EXPECT_THAT(Refused(With("32.0 GT/s", "-32.0 GT/s")), HasSubstr("box.xml:3: <pci> link_speed=\"-32.0 GT/s PCIe\""));
  EXPECT_THAT(Refused(With("32.0 GT/s", "1e999 GT/s")), HasSubstr("link_speed"));
  EXPECT_THAT(Refused(With("count=\"4\"", "count=\"-4\"")), HasSubstr("box.xml:5: <nvlink> count=\"-4\""));
  EXPECT_THAT(Refused(With("count=\"4\"", "count=\"0\"")), HasSubstr("count=\"0\""));
  EXPECT_THAT(Refused(With("speed=\"200000\"", "speed=\"9223372036854775808\"")), HasSubstr("<net> speed="));
  EXPECT_THAT(Refused(With("numaid=\"1\"", "numaid=\"-7\"")), HasSubstr("<cpu> numaid=\"-7\""));
  EXPECT_THAT(Refused(With("dev=\"3\"", "dev=\"x\"")), HasSubstr("<gpu> dev=\"x\""));
}

TEST(NcclXmlTest, LanesAndSpeedsThatTheKernelDoesNotKnowAreTheChips) {
  const Host host =
      Read(absl::StrReplaceAll(kBox, {{"link_width=\"8\"", "link_width=\"255\""}, {"16 GT/s", "Unknown"}}));
  EXPECT_EQ(Shown(host, 0, 2), "PIX 24000");
}

TEST(NcclXmlTest, ALinkToItselfIsRefused) {
  EXPECT_THAT(Refused(With("target=\"0000:03:00.0\"", "target=\"0000:02:00.0\"")),
              HasSubstr("box.xml:5: <nvlink> from 0000:02:00.0 to itself"));
}

TEST(NcclXmlTest, ALinkWithTwoOpinionsIsRefused) {
  EXPECT_THAT(Refused(With("target=\"0000:03:00.0\" count=\"4\"", "target=\"0000:03:00.0\" count=\"3\"")),
              HasSubstr("has 3 links to 0000:03:00.0, which has 4 back (line 7)"));
}

TEST(NcclXmlTest, ThingsThatStandTwiceAreRefused) {
  EXPECT_THAT(Refused(With("busid=\"0000:04:00.0\"", "busid=\"0:3:0.0\"")),
              HasSubstr("box.xml:10: <pci> 0000:03:00.0: line 7 has that address already"));
  EXPECT_THAT(Refused(With("dev=\"3\"", "dev=\"2\"")), HasSubstr("<gpu> dev=2 twice"));
  EXPECT_THAT(Refused(With("numaid=\"1\"", "numaid=\"0\"")), HasSubstr("<cpu> numaid=0 twice"));
  EXPECT_THAT(Refused(With("<gpu dev=\"3\" sm=\"80\"/>", "<gpu dev=\"3\"/><gpu dev=\"4\"/>")),
              HasSubstr("has two <gpu>"));
}

TEST(NcclXmlTest, AddressesThatAreNoneAreRefused) {
  EXPECT_THAT(Refused(With("busid=\"0000:04:00.0\"", "busid=\"zz\"")),
              HasSubstr("<pci> busid=\"zz\"; expected an address"));
  EXPECT_THAT(Refused(With("busid=\"0000:04:00.0\"", "")), HasSubstr("<pci> busid=none"));
  EXPECT_THAT(Refused(With("target=\"0000:03:00.0\"", "target=\"\"")), HasSubstr("<nvlink> target=\"\""));
}

TEST(NcclXmlTest, SeveralHostsInOneFileAreRefused) {
  const std::string text = absl::StrReplaceAll(
      kBox, {{"numaid=\"0\"", "numaid=\"0\" host_hash=\"0x1\""}, {"numaid=\"1\"", "numaid=\"1\" host_hash=\"0x2\""}});
  EXPECT_THAT(Refused(text), HasSubstr("CPUs of several hosts"));
}

TEST(NcclXmlTest, NvLinkWithoutAChipThatHasItIsRefused) {
  EXPECT_THAT(Refused(absl::StrReplaceAll(kBox, {{" sm=\"80\"", ""}})), HasSubstr("give it with --gpu (V100"));
  EXPECT_THAT(Refused(kBox, "T4"), HasSubstr("GPU 0000:02:00.0 has NVLink, T4 has none"));
}

TEST(NcclXmlTest, BrokenXmlAndWhatFollowsItAreRefused) {
  EXPECT_THAT(Refused(""), HasSubstr("box.xml:1: not XML: no element found"));
  EXPECT_THAT(Refused(absl::StrCat(kBox, "<system/>")), HasSubstr("box.xml:24: not XML: junk after document element"));
  EXPECT_THAT(Refused(std::string(kBox, 300)), HasSubstr("box.xml:"));
  EXPECT_THAT(Refused("<topology/>"), HasSubstr("a topology of NCCL starts with <system>"));
  EXPECT_THAT(Refused("<system version=\"3\"/>"), HasSubstr("<system> version=\"3\""));
  EXPECT_THAT(Refused("<system/>"), HasSubstr("no GPU in it"));
}

TEST(NcclXmlTest, TooManyAndTooMuchAreRefused) {
  std::string many = "<system><cpu numaid=\"0\">";
  for (int i = 0; i < 65; ++i) absl::StrAppend(&many, "<pci busid=\"", i, ":0:0.0\" class=\"0x030200\"/>\n");
  EXPECT_THAT(Refused(many + "</cpu></system>"), HasSubstr("box.xml:65: 65 GPUs; at most 64"));
  EXPECT_THAT(Refused(std::string((4 << 20) + 1, ' ')), HasSubstr("a topology has at most 4194304"));
}

struct Machine {
  int devices;
  const char* chip;
  std::string first, last;
  std::vector<int> numa;
  int64_t network_mbps;
};

TEST(XmlMachinesTest, AllAreReadAsTheyAre) {
  const auto folder = MachinesFolder() / "nccl";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "the collection of machines is not beside the repository";
  const std::vector<int> two = {0, 0, 0, 0, 1, 1, 1, 1};
  const std::map<std::string, Machine> machines = {
      {"aws-p4d.24xlarge", {8, "generic", "PIX 12000", "SYS 10000", two, 0}},
      {"aws-p4de.24xlarge", {8, "generic", "PIX 12000", "SYS 10000", two, 0}},
      {"azure-ndv2", {8, "generic", "PHB 24000", "SYS 10000", two, 0}},
      {"azure-ndv4", {8, "generic", "PIX 24000", "SYS 16000", {0, 0, 1, 1, 2, 2, 3, 3}, 0}},
      {"azure-ndv5", {8, "generic", "PHB 48000", "SYS 22000", two, 0}},
      {"oci-a100-flattened", {8, "generic", "PIX 24000", "SYS 16000", {3, 3, 1, 1, 7, 7, 5, 5}, 0}},
      {"oci-h100-8x", {8, "H100", "NV18 switch 370800", "NV18 switch 370800", two, 400'000}},
      {"rccl-topo_4p1h", {4, "generic", "NV1 24000", "PXB 12000", {0, 0, 0, 0}, 12'500}},
      {"rccl-topo_4p3l", {4, "generic", "NV1 24000", "NV1 24000", {0, 0, 0, 0}, 2'500}},
      {"rccl-topo_8p1h", {8, "generic", "NV4 96000", "SYS 12000", {1, 1, 1, 1, 3, 3, 3, 3}, 100'000}},
      {"rccl-topo_8p6l", {8, "generic", "NV1 24000", "NV1 24000", two, 25'000}},
      {"rccl-topo_8p_940", {8, "generic", "NV1 24000", "NV1 24000", two, 400'000}},
      {"rccl-topo_8p_pcie", {8, "generic", "PXB 12000", "PHB 12000", {0, 0, 0, 0, 0, 0, 0, 0}, 12'500}},
  };
  size_t read = 0;
  for (const auto& path : FilesIn(folder)) {
    const std::string name = path.stem();
    SCOPED_TRACE(name);
    ASSERT_EQ(machines.count(name), 1u) << "say here what it is";
    const Machine& machine = machines.at(name);
    const absl::StatusOr<Host> host = ParseNcclXml(Contents(path), name, {});
    ASSERT_TRUE(host.ok()) << host.status().ToString();
    ASSERT_THAT(host->devices, SizeIs(machine.devices));
    EXPECT_STREQ(host->devices[0].chip->name, machine.chip);
    EXPECT_EQ(Shown(*host, 0, 1), machine.first);
    EXPECT_EQ(Shown(*host, 0, host->size() - 1), machine.last);
    EXPECT_EQ(NumaNodes(*host), machine.numa);
    EXPECT_EQ(host->network_mbps, machine.network_mbps);
    ++read;
  }
  EXPECT_EQ(read, machines.size());
}

}  // namespace
}  // namespace tandem::placement
