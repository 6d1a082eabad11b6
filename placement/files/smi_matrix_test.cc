#include "placement/files/smi_matrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "placement/files/files_for_test.h"
#include "placement/files/smi_text.h"

namespace tandem::placement {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Host Read(const std::string& text, const std::string& gpu = "A100") {
  const absl::StatusOr<Host> host = ParseSmiMatrix(text, "box.txt", {gpu});
  EXPECT_TRUE(host.ok()) << host.status().ToString();
  return host.ok() ? *host : Host();
}

std::string Refused(const std::string& text, const std::string& gpu = "A100") {
  const absl::StatusOr<Host> host = ParseSmiMatrix(text, "box.txt", {gpu});
  if (host.ok()) return "was read";
  EXPECT_EQ(host.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(host.status().message());
  EXPECT_THAT(message, Not(HasSubstr("\n")));
  return message;
}

constexpr char kPairs[] =
    "\tGPU0\tGPU1\tGPU2\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
    "GPU0\t X \tNV12\tSYS\t0-31,64-95\t0\t\tN/A\n"
    "GPU1\tNV12\t X \tSYS\t0-31,64-95\t0\t\tN/A\n"
    "GPU2\tSYS\tSYS\t X \t32-63,96-127\t1\t\tN/A\n";

std::string With(const std::string& from, const std::string& to) {
  const std::string text = absl::StrReplaceAll(kPairs, {{from, to}});
  EXPECT_NE(text, kPairs) << from;
  return text;
}

TEST(SmiMatrixTest, APlainOneIsRead) {
  const Host host = Read(kPairs);
  ASSERT_EQ(host.size(), 3);
  EXPECT_EQ(Shown(host, 0, 1), "NV12 240000");
  EXPECT_EQ(Shown(host, 1, 2), "SYS 22000");
  EXPECT_THAT(NumaNodes(host), ElementsAre(0, 0, 1));
  EXPECT_EQ(host.devices[2].name, "host0/2");
  EXPECT_EQ(host.link(0, 1).source, Source::kFile);
}

TEST(SmiMatrixTest, WithoutAChipPcieIsGeneric) {
  const Host host = Read(With("NV12", "PIX"), "");
  EXPECT_STREQ(host.devices[0].chip->name, "generic");
  EXPECT_EQ(Shown(host, 0, 1), "PIX 24000");
}

TEST(SmiMatrixTest, BlanksAndCarriageReturnsAndEscapesAreWhiteSpace) {
  EXPECT_EQ(Read(absl::StrReplaceAll(kPairs, {{"\n", "\r\n"}})).size(), 3);
  EXPECT_THAT(NumaNodes(Read(absl::StrReplaceAll(kPairs, {{"\t", "   "}}))), ElementsAre(0, 0, 1));
  EXPECT_EQ(Read(absl::StrCat("\x1b[4m", With("NUMA ID\n", "NUMA ID\x1b[0m\n"))).size(), 3);
  EXPECT_EQ(Read(absl::StrCat("\xef\xbb\xbf$ nvidia-smi topo -m\n\n```\n", kPairs, "```\n")).size(), 3);
}

TEST(SmiMatrixTest, NumaMayBeMissingARangeOrAList) {
  EXPECT_THAT(NumaNodes(Read(With("127\t1\t", "127\t1-3\t"))), ElementsAre(0, 0, 1));
  EXPECT_THAT(NumaNodes(Read(With("127\t1\t", "127\t2,5-11\t"))), ElementsAre(0, 0, 2));
  EXPECT_THAT(NumaNodes(Read(With("127\t1\t", "127\tN/A\t"))), ElementsAre(0, 0, -1));
}

TEST(SmiMatrixTest, ABlankAffinityLeavesNumaInItsPlace) {
  EXPECT_THAT(NumaNodes(Read(absl::StrReplaceAll(kPairs, {{"32-63,96-127", ""}, {"0-31,64-95", ""}}))),
              ElementsAre(0, 0, 1));
  EXPECT_THAT(NumaNodes(Read("        GPU0    GPU1    CPU Affinity    NUMA Affinity\n"
                             "GPU0     X      SYS                     0\n"
                             "GPU1    SYS      X      8-15            1\n")),
              ElementsAre(0, 1));
}

TEST(SmiMatrixTest, WithoutANumaColumnCoresTellTheSockets) {
  EXPECT_THAT(
      NumaNodes(Read("GPU0 GPU1 GPU2 CPU Affinity\nGPU0 X PIX SOC 0-7\nGPU1 PIX X SOC 0-7\nGPU2 SOC SOC X 8-15\n")),
      ElementsAre(0, 0, 1));
  EXPECT_THAT(NumaNodes(Read("GPU0 GPU1 CPU Affinity\nGPU0 X SOC 0-7\nGPU1 SOC X 0-7\n")), ElementsAre(-1, -1));
}

TEST(SmiMatrixTest, GluedCellsThatReadInOneWayAreSplit) {
  const Host host = Read(
      "GPU0GPU1 GPU2 CPU Affinity NUMA Affinity\nGPU0 XNODENODE 0-7 0\nGPU1 NODE X NODE0-7 0\n"
      "GPU2 NODE NODE X 0-7 0\n");
  EXPECT_EQ(Shown(host, 0, 2), "NODE 24000");
  EXPECT_THAT(NumaNodes(host), ElementsAre(0, 0, 0));
}

TEST(SmiMatrixTest, GluedCellsThatReadInTwoWaysAreRefused) {
  EXPECT_THAT(Refused("GPU0 GPU1 CPU Affinity\nGPU0 X NV120-7\nGPU1 NV12 X 0-7\n"),
              HasSubstr("box.txt:2: row GPU0, column GPU1: unknown cell \"NV120-7\""));
}

TEST(SmiMatrixTest, WrappedLinesThatReadInOneWayAreJoined) {
  const Host host = Read(
      "GPU0 GPU1 GPU2\nCPU Affinity NUMA Affinity\nGPU0 X NODE\nSYS 0-7 0\nGPU1 NODE X SYS\n0-7 0\n"
      "GPU2 SYS SYS X 8-15 1\n");
  EXPECT_EQ(Shown(host, 0, 2), "SYS 22000");
  EXPECT_THAT(NumaNodes(host), ElementsAre(0, 0, 1));
}

TEST(SmiMatrixTest, AWrappedLineThatBelongsNowhereIsRefused) {
  EXPECT_THAT(Refused("GPU0 GPU1\nGPU0 X SYS\nSYS\nGPU1 SYS X\n"), HasSubstr("box.txt:3: \"SYS\" is neither a row"));
  EXPECT_THAT(Refused("GPU0 GPU1\nGPU0 X SYS\nGPU1 SYS X\nSYS SYS\n"),
              HasSubstr("box.txt:4: \"SYS\" belongs to no row"));
}

TEST(SmiMatrixTest, AsymmetricIsRefused) {
  EXPECT_EQ(Refused(With("GPU1\tNV12", "GPU1\tNV4")),
            "box.txt:2: row GPU0, column GPU1: NV12, but line 3 says NV4 the other way; a link is the same both ways");
}

TEST(SmiMatrixTest, AMissingColumnIsRefused) {
  EXPECT_THAT(Refused(With("GPU0\tGPU1\tGPU2", "GPU0\tGPU2")), HasSubstr("expected GPU1 here; a column is missing"));
  EXPECT_THAT(Refused(With("GPU0\tGPU1\tGPU2", "GPU0\tGPU1")), HasSubstr("has more cells than the 2 columns"));
  EXPECT_THAT(Refused(With("SYS\tSYS\t X ", "SYS\t X ")),
              HasSubstr("row GPU2: it has 2 cells, the header of line 1 has 3"));
}

TEST(SmiMatrixTest, AMissingRowIsRefused) {
  EXPECT_EQ(Refused(With("GPU1\tNV12\t X \tSYS\t0-31,64-95\t0\t\tN/A\n", "")),
            "box.txt:1: row GPU1: it is missing; the header has that column");
}

TEST(SmiMatrixTest, AMissingCardRowIsRefusedOnlyBesideOthers) {
  const std::string one = "GPU0 NIC0 NIC1\nGPU0 X PIX SYS\nNIC0 PIX X SYS\n";
  EXPECT_THAT(Refused(one), HasSubstr("row NIC1: it is missing"));
  EXPECT_EQ(Read(one + "NIC1 SYS SYS X\n").size(), 1);
  EXPECT_EQ(Read("GPU0 NIC0 NIC1\nGPU0 X PIX SYS\n").size(), 1);
}

TEST(SmiMatrixTest, AMissingHeaderIsRefused) {
  EXPECT_THAT(Refused("GPU0 X SYS\nGPU1 SYS X\n"), HasSubstr("box.txt:1: row GPU0: no header line stands above it"));
}

TEST(SmiMatrixTest, AnUnknownCellIsRefused) {
  EXPECT_EQ(
      Refused(With("\tSYS\t0-31", "\tFOO\t0-31")),
      "box.txt:2: row GPU0, column GPU2: unknown cell \"FOO\"; expected X, NV<links>, PIX, PXB, PHB, NODE or SYS");
  EXPECT_THAT(Refused(With("\tSYS\t0-31", "\tNV\t0-31")), HasSubstr("unknown cell \"NV\""));
  EXPECT_THAT(Refused(With(" X ", "NODE")), HasSubstr("row GPU0, column GPU0: NODE on the diagonal"));
  EXPECT_THAT(Refused(With("NV12", "X")), HasSubstr("X beside the diagonal"));
}

TEST(SmiMatrixTest, TheSameGpuTwiceIsRefused) {
  EXPECT_THAT(Refused(With("GPU2\tCPU", "GPU1\tCPU")), HasSubstr("column \"GPU1\": it stands there twice"));
  EXPECT_THAT(Refused(With("GPU1\tNV12", "GPU0\tNV12")), HasSubstr("box.txt:3: row GPU0: line 2 has it already"));
}

std::string AllSys(int rows, int columns, int cells) {
  std::string text;
  for (int i = 0; i < columns; ++i) absl::StrAppend(&text, "\tGPU", i);
  for (int i = 0; i < rows; ++i) {
    absl::StrAppend(&text, "\nGPU", i);
    for (int j = 0; j < cells; ++j) absl::StrAppend(&text, i == j ? "\t X " : "\tSYS");
  }
  return text + "\n";
}

TEST(SmiMatrixTest, SixtyFourGpusAreReadAndOneMoreIsRefused) {
  EXPECT_EQ(Read(AllSys(64, 64, 64)).size(), 64);
  EXPECT_THAT(Refused(AllSys(65, 65, 65)), HasSubstr("box.txt:1: header: 65 GPUs; at most 64"));
}

TEST(SmiMatrixTest, SeventeenGpusUnderAHeaderOfSixteenAreRefused) {
  EXPECT_THAT(Refused(AllSys(17, 16, 17)), HasSubstr("box.txt:2: row GPU0: it has more cells than the 16 columns"));
  EXPECT_THAT(Refused(AllSys(17, 16, 16)),
              HasSubstr("row GPU16: the header of line 1 has no such column, only 16 GPUs"));
}

TEST(SmiMatrixTest, ACountOfLinksThatNoChipHasIsRefused) {
  EXPECT_THAT(Refused(With("NV12", "NV0")), HasSubstr("NV0, but A100 has 12 links"));
  EXPECT_THAT(Refused(With("NV12", "NV999")), HasSubstr("NV999, but A100 has 12 links"));
  EXPECT_THAT(Refused(With("NV12", "NV99999999999999999999")), HasSubstr("but A100 has 12 links"));
}

TEST(SmiMatrixTest, NvLinkWithoutAChipThatHasItIsRefused) {
  EXPECT_THAT(Refused(kPairs, ""), HasSubstr("give it with --gpu (V100, A100"));
  EXPECT_THAT(Refused(kPairs, "T4"), HasSubstr("box.txt:2: row GPU0, column GPU1: NV12, but T4 has no NVLink"));
  EXPECT_THAT(Refused(kPairs, "A1000"), HasSubstr("unknown GPU \"A1000\"; known are V100"));
}

TEST(SmiMatrixTest, NoMatrixAtAllIsRefused) {
  EXPECT_THAT(Refused(""), HasSubstr("box.txt:1: no matrix in it"));
  EXPECT_THAT(Refused("hello\nworld\n"), HasSubstr("no matrix in it"));
  EXPECT_THAT(Refused(std::string("\0\x01\x02", 3)), HasSubstr("no matrix in it"));
}

TEST(SmiMatrixTest, MoreThanAMebibyteIsRefused) {
  EXPECT_THAT(Refused(std::string((1 << 20) + 1, ' ')), HasSubstr("1048577 bytes; a matrix has at most 1 MiB"));
}

TEST(SmiMatrixTest, AffinityThatIsNoneIsRefused) {
  EXPECT_THAT(Refused(With("32-63,96-127", "socket")), HasSubstr("row GPU2: CPU affinity \"socket\""));
  EXPECT_THAT(Refused(With("127\t1\t", "127\t-1\t")), HasSubstr("row GPU2: NUMA affinity \"-1\""));
  EXPECT_THAT(Refused(With("127\t1\t", "127\t99999999999\t")), HasSubstr("NUMA affinity"));
}

TEST(SmiMatrixTest, WhatAMessageShowsIsHarmless) {
  EXPECT_THAT(Refused(With("\tSYS\t0-31", "\tbad\x01\x7f\t0-31")), HasSubstr("unknown cell \"bad\\x01\\x7f\""));
}

// Facts of real machines. Link 0-1 and 0-last, NUMA nodes, edges.
struct Machine {
  const char* gpu;
  int devices;
  std::string first, last;
  size_t edges;
};

TEST(SmiMachinesTest, AllAreReadAsTheyAre) {
  const auto folder = MachinesFolder() / "smi";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "the collection of machines is not beside the repository";
  const std::map<std::string, Machine> machines = {
      {"2xRTX3090-nvlink", {"RTX3090", 2, "NV4 48000", "NV4 48000", 0}},
      {"2xRTX3090-phb-p2p-patched", {"RTX3090", 2, "PHB 24000", "PHB 24000", 0}},
      {"3xA6000-one-bridge", {"A6000", 3, "NV4 48000", "NODE 24000", 0}},
      {"4xA100-PCIe-nvlink-pairs", {"A100", 4, "NV12 240000", "SYS 22000", 1}},
      {"4xA30-nvlink-pairs-1nic", {"A30", 4, "NV4 80000", "SYS 22000", 1}},
      {"4xA40-pxb-pix-sys-2nic", {"A40", 4, "PXB 24000", "SYS 22000", 3}},
      {"4xK80-soc-legend", {"K80", 4, "PIX 12000", "SYS 10000", 3}},
      {"4xL40S-pix-node", {"L40S", 4, "PIX 24000", "NODE 24000", 2}},
      {"8xA100-PCIe-nvlink-pairs", {"A100", 8, "NV12 240000", "SYS 22000", 1}},
      {"8xPCIe-asymmetric-6plus2", {"A40", 8, "NODE 24000", "SYS 22000", 1}},
      {"8xPCIe-dual-socket-node", {"A40", 8, "NODE 24000", "SYS 22000", 1}},
      {"8xPCIe-dual-socket-pix-phb-1nic", {"V100", 8, "PIX 12000", "SYS 10000", 5}},
      {"8xRTX4090-all-sys-2nic", {"RTX4090", 8, "SYS 24000", "SYS 22000", 1}},
      {"aws-p4d-8xA100-SXM4", {"A100", 8, "NV12 switch 240000", "NV12 switch 240000", 1}},
      {"azure-nc96ads-4xA100-PCIe-4numa", {"A100", 4, "NV12 240000", "SYS 22000", 4}},
      {"c4140-4xV100-SXM2-nv2-mesh", {"V100", 4, "NV2 40000", "NV2 40000", 0}},
      {"dgx-spark-gb10-4nic", {"GB10", 1, "X 0", "X 0", 0}},
      {"dgx1-8xV100-SXM2", {"V100", 8, "NV1 20000", "SYS 10000", 1}},
      {"gb200-tray-4gpu", {"GB200", 4, "NV18 switch 721800", "NV18 switch 721800", 1}},
      {"h100-pcie-1gpu-vm", {"H100-PCIe", 1, "X 0", "X 0", 0}},
      {"hgx-4xH100-nv6-mesh-4nic", {"H100", 4, "NV6 123600", "NV6 123600", 4}},
      {"hgx-8xH20-2nic", {"H20", 8, "NV18 switch 370800", "NV18 switch 370800", 1}},
      {"polaris-4xA100-SXM4-reversed-numa", {"A100", 4, "NV4 80000", "NV4 80000", 4}},
  };
  std::map<std::string, Host> hosts;
  for (const auto& path : FilesIn(folder)) {
    const std::string name = path.stem();
    SCOPED_TRACE(name);
    ASSERT_EQ(machines.count(name), 1u) << "say here what it is";
    const Machine& machine = machines.at(name);
    const absl::StatusOr<Host> host = ParseSmiMatrix(Contents(path), name, {machine.gpu});
    ASSERT_TRUE(host.ok()) << host.status().ToString();
    ASSERT_EQ(host->size(), machine.devices);
    EXPECT_EQ(Shown(*host, 0, host->size() > 1 ? 1 : 0), machine.first);
    EXPECT_EQ(Shown(*host, 0, host->size() - 1), machine.last);
    EXPECT_EQ(host->edges.size(), machine.edges);
    hosts[name] = *host;
  }
  EXPECT_EQ(hosts.size(), machines.size());
  EXPECT_THAT(NumaNodes(hosts["dgx1-8xV100-SXM2"]), ElementsAre(0, 0, 0, 0, 1, 1, 1, 1));
  EXPECT_THAT(NumaNodes(hosts["8xRTX4090-all-sys-2nic"]), ElementsAre(0, 0, 0, 0, 1, 1, 1, 1));
  EXPECT_THAT(NumaNodes(hosts["8xPCIe-asymmetric-6plus2"]), ElementsAre(0, 0, 0, 0, 0, 0, 1, 1));
  EXPECT_THAT(NumaNodes(hosts["azure-nc96ads-4xA100-PCIe-4numa"]), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(NumaNodes(hosts["polaris-4xA100-SXM4-reversed-numa"]), ElementsAre(3, 2, 1, 0));
  EXPECT_THAT(NumaNodes(hosts["hgx-4xH100-nv6-mesh-4nic"]), ElementsAre(3, 1, 7, 5));
  EXPECT_THAT(NumaNodes(hosts["4xK80-soc-legend"]), ElementsAre(0, 0, 1, 1));
  EXPECT_THAT(NumaNodes(hosts["c4140-4xV100-SXM2-nv2-mesh"]), Each(0));
  EXPECT_EQ(Shown(hosts["dgx1-8xV100-SXM2"], 0, 4), "NV2 40000");
  EXPECT_EQ(Shown(hosts["3xA6000-one-bridge"], 1, 2), "NODE 24000");
}

}  // namespace
}  // namespace tandem::placement
