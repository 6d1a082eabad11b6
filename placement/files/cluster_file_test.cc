#include "placement/files/cluster_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "placement/files/files_for_test.h"

namespace tandem::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

absl::StatusOr<std::vector<Host>> Parse(const std::string& text, const std::string& gpu) {
  return ParseClusterFile(text, "cluster.yaml", {gpu},
                          [](const std::string& path, const ReadOptions& options) -> absl::StatusOr<Host> {
                            if (path != "pair.txt") return absl::NotFoundError(path + ": no such file");
                            Host host;
                            host.devices.assign(2, Device{.chip = FindChip(options.gpu)});
                            host.links = {{PathKind::kSelf}, {PathKind::kPix}, {PathKind::kPix}, {PathKind::kSelf}};
                            return Finish(host, options, path);
                          });
}

std::vector<Host> Read(const std::string& text, const std::string& gpu = "") {
  const auto hosts = Parse(text, gpu);
  EXPECT_TRUE(hosts.ok()) << hosts.status().ToString();
  return hosts.ok() ? *hosts : std::vector<Host>();
}

std::string Refused(const std::string& text, const std::string& gpu = "") {
  const auto hosts = Parse(text, gpu);
  if (hosts.ok()) return "was read";
  EXPECT_EQ(hosts.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(hosts.status().message());
  EXPECT_THAT(message, Not(HasSubstr("\n")));
  return message;
}

TEST(ClusterFileTest, AHostOnASwitchIsReadManyTimes) {
  const std::vector<Host> hosts = Read(
      "hosts:\n  - {name: box, count: 3, gpu: H100, devices: 8, memory: 80GiB, numa: [0,0,0,0,1,1,1,1], nvswitch: "
      "true, "
      "network: 400Gbit/s}\n");
  ASSERT_THAT(hosts, SizeIs(3));
  EXPECT_EQ(hosts[2].name, "box-2");
  EXPECT_EQ(hosts[2].devices[7].name, "box-2/7");
  EXPECT_EQ(Shown(hosts[0], 0, 7), "NV18 switch 370800");
  EXPECT_EQ(hosts[0].devices[7].numa, 1);
  EXPECT_EQ(hosts[0].devices[0].memory_total, int64_t{80} << 30);
  EXPECT_EQ(hosts[0].network_mbps, 50'000);
}

TEST(ClusterFileTest, ListedLinksStandBesideTheDefault) {
  const Host host = Read(
                        "hosts:\n- name: a\n  gpu: A100\n  devices: 4\n  numa: [0, 0, 1, 1]\n  default_link: PIX\n"
                        "  links: [[0, 1, NV4], [2, 1, NODE]]\n  memory: [1GiB, 2 GB, 3MiB, 4]\n")
                        .at(0);
  EXPECT_EQ(host.name, "a");
  EXPECT_EQ(Shown(host, 1, 0), "NV4 80000");
  EXPECT_EQ(Shown(host, 1, 2), "NODE 24000");
  EXPECT_EQ(Shown(host, 2, 3), "PIX 24000");
  EXPECT_EQ(Shown(host, 0, 3), "SYS 22000");
  EXPECT_EQ(host.devices[1].memory_total, 2'000'000'000);
}

TEST(ClusterFileTest, LittleIsNeeded) {
  const Host host = Read("hosts: [{name: a, devices: 2}]").at(0);
  EXPECT_EQ(Shown(host, 0, 1), "PHB 24000");
  EXPECT_STREQ(host.devices[0].chip->name, "generic");
  EXPECT_EQ(Read("hosts: [{name: a, devices: 2}]", "L4").at(0).devices[0].memory_total, int64_t{24} << 30);
}

TEST(ClusterFileTest, AnotherFileDescribesAHost) {
  const std::vector<Host> hosts = Read("hosts: [{name: a, gpu: L40S, topology: pair.txt, count: 2, memory: 40GiB}]");
  ASSERT_THAT(hosts, SizeIs(2));
  EXPECT_EQ(Shown(hosts[1], 0, 1), "PIX 24000");
  EXPECT_EQ(hosts[1].devices[0].name, "a-1/0");
  EXPECT_EQ(hosts[1].devices[0].memory_total, int64_t{40} << 30);
  EXPECT_THAT(Refused("hosts:\n- name: a\n  topology: gone.txt\n"),
              HasSubstr("cluster.yaml:3: topology: gone.txt: no such"));
  EXPECT_THAT(Refused("hosts: [{name: a, topology: pair.txt, devices: 2}]"),
              HasSubstr("devices: the topology file says"));
}

TEST(ClusterFileTest, WhatIsWrongIsNamedWithItsLine) {
  const auto host = [](const char* more) {
    return Refused(absl::StrCat("hosts:\n- name: a\n  devices: 2\n  ", more, "\n"));
  };
  EXPECT_THAT(host("gpus: 4"), HasSubstr("cluster.yaml:4: unknown key \"gpus\"; known of a host: name, count"));
  EXPECT_THAT(host("devices: 3"), HasSubstr("cluster.yaml:4: devices: given twice"));
  EXPECT_THAT(host("gpu: Z9"), HasSubstr("unknown GPU \"Z9\"; known are V100"));
  EXPECT_THAT(host("count: -1"), HasSubstr("cluster.yaml:4: count: \"-1\"; expected a number from 1 to 100000"));
  EXPECT_THAT(host("memory: 80G"), HasSubstr("memory: \"80G\"; expected a size such as 80GiB"));
  EXPECT_THAT(host("memory: 99999999999999TiB"), HasSubstr("memory: "));
  EXPECT_THAT(host("memory: [1GiB]"), HasSubstr("expected one size or a list of 2"));
  EXPECT_THAT(host("numa: [0]"), HasSubstr("numa: expected a list of 2 numbers"));
  EXPECT_THAT(host("numa: [0, -1]"), HasSubstr("numa: \"-1\""));
  EXPECT_THAT(host("nvswitch: true"), HasSubstr("nvswitch: generic has no NVLink"));
  EXPECT_THAT(host("nvswitch: 1"), HasSubstr("expected true or false"));
  EXPECT_THAT(host("links: [[0, 1, NV4]]"), HasSubstr("\"NV4\", but generic has 0 NVLinks; name the chip with gpu"));
  EXPECT_THAT(host("links: [[0, 2, PIX]]"), HasSubstr("links: \"2\"; expected a number from 0 to 1"));
  EXPECT_THAT(host("links: [[1, 1, PIX]]"), HasSubstr("links: from 1 to itself"));
  EXPECT_THAT(host("links: [[0, 1, PIX], [1, 0, SYS]]"), HasSubstr("twice"));
  EXPECT_THAT(host("links: [[0, 1]]"), HasSubstr("expected [device, device, label]"));
  EXPECT_THAT(host("default_link: FAST"), HasSubstr("default_link: \"FAST\""));
  EXPECT_THAT(host("network: 400"), HasSubstr("network: \"400\"; expected a rate"));
}

TEST(ClusterFileTest, ThingsAroundTheHostsAreCheckedToo) {
  EXPECT_THAT(Refused(""), HasSubstr("cluster.yaml:1: "));
  EXPECT_THAT(Refused("hosts: []"), HasSubstr("no host in it"));
  EXPECT_THAT(Refused("hosts: 4"), HasSubstr("expected a list of hosts"));
  EXPECT_THAT(Refused("hosts: [4]"), HasSubstr("expected a section of keys for a host"));
  EXPECT_THAT(Refused("nodes: []"), HasSubstr("unknown key \"nodes\"; known here: hosts"));
  EXPECT_THAT(Refused("hosts: [{devices: 2}]"), HasSubstr("name: a host needs one"));
  EXPECT_THAT(Refused("hosts: [{name: a}]"), HasSubstr("devices: a host needs their number"));
  EXPECT_THAT(Refused("hosts: [{name: 'a/b', devices: 2}]"), HasSubstr("name: \"a/b\"; expected letters"));
  EXPECT_THAT(Refused("hosts: [{name: a, devices: 1}, {name: a, devices: 1}]"), HasSubstr("two hosts are called a"));
  EXPECT_THAT(Refused("hosts: [{name: a, devices: 65}]"), HasSubstr("devices: \"65\"; expected a number from 1 to 64"));
  EXPECT_THAT(Refused("hosts: [\n"), HasSubstr("not YAML"));
  EXPECT_THAT(Refused("hosts: []\n---\nhosts: []\n"), HasSubstr("more than one document"));
}

TEST(ClusterFileTest, StrayPunctuationEndsInAMessage) {
  for (const char* text : {", a", ", hosts: []", "hosts: [{name: a, devices: 1}]\n, b", "hosts: []]", "}",
                           "hosts: [*a]", "&a hosts: *a", "!<\n> x", "? [", "hosts: [{? {a: b} : c}]"}) {
    EXPECT_THAT(Refused(text), HasSubstr("cluster.yaml:")) << text;
  }
}

TEST(ClusterFileTest, EndlessNestingIsRefused) {
  std::string deep = "hosts:\n ";
  for (int i = 0; i < 100'000; ++i) deep += "[{";
  EXPECT_THAT(Refused(deep), HasSubstr("cluster.yaml:2: nested too deeply"));
}

TEST(ClusterFileTest, AHundredThousandDevicesAreReadAndOneMoreIsRefused) {
  EXPECT_THAT(Read("hosts: [{name: a, count: 12500, devices: 8}]"), SizeIs(12'500));
  EXPECT_THAT(Refused("hosts: [{name: a, count: 12500, devices: 8}, {name: b, devices: 1}]"),
              HasSubstr("100001 devices up to here; at most 100000"));
}

}  // namespace
}  // namespace tandem::placement
