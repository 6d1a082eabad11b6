#include "placement/files/read_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "placement/files/files_for_test.h"

namespace tandem::placement {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string Corpus(const std::string& name) { return SourceFolder() / "placement/files/corpus" / name; }

TEST(ReadTopologyTest, TheContentsSayWhatKindItIs) {
  EXPECT_EQ(KindOf("\n <!-- by hand -->\n<system/>"), TopologyFileKind::kNcclXml);
  EXPECT_EQ(KindOf("# ours\nhosts:\n"), TopologyFileKind::kCluster);
  EXPECT_EQ(KindOf("\tGPU0\n"), TopologyFileKind::kSmiMatrix);
  EXPECT_EQ(KindOf(""), TopologyFileKind::kSmiMatrix);
}

TEST(ReadTopologyTest, EveryFileOfTheCorpusIsReadOrRefusedByItsName) {
  for (const char* kind : {"smi", "xml", "cluster"}) {
    for (const auto& path : FilesIn(Corpus(kind))) {
      const auto hosts = ReadTopologyFile(path, {"A100"});
      const bool bad = path.filename().string().substr(0, 4) == "bad-";
      EXPECT_EQ(hosts.ok(), !bad) << path << ": " << hosts.status().ToString();
      EXPECT_THAT(std::string(hosts.status().message()), HasSubstr(bad ? path.string() : ""));
    }
  }
}

TEST(ReadTopologyTest, AClusterFileMayNameFilesBesideIt) {
  const auto hosts = ReadTopologyFile(Corpus("cluster/mixed.yaml"));
  ASSERT_TRUE(hosts.ok()) << hosts.status().ToString();
  ASSERT_THAT(*hosts, SizeIs(4));
  EXPECT_EQ((*hosts)[3].name, "pair");
  EXPECT_EQ(Shown((*hosts)[3], 0, 1), "NV12 240000");
}

TEST(ReadTopologyTest, HostsOfSeveralFilesAreNumberedOn) {
  auto hosts = ReadTopologyFile(Corpus("cluster/mixed.yaml"));
  ASSERT_TRUE(hosts.ok()) << hosts.status().ToString();
  NumberHosts(*hosts, 2);
  EXPECT_EQ(hosts->back().name, "host5");
  EXPECT_EQ(hosts->back().devices[1].name, "host5/1");
}

TEST(ReadTopologyTest, AFileThatIsNotThereIsNamed) {
  const auto hosts = ReadTopologyFile("/no/such/file");
  EXPECT_EQ(hosts.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(hosts.status().message()), HasSubstr("/no/such/file: no such file"));
  EXPECT_EQ(ReadTopologyFile("/").status().code(), absl::StatusCode::kNotFound);
}

TEST(ReadTopologyTest, AnUnknownGpuListsTheKnownOnes) {
  const auto hosts = ParseTopology("GPU0 GPU1\nGPU0 X PIX\nGPU1 PIX X\n", "a.txt", {"Z9"});
  EXPECT_THAT(std::string(hosts.status().message()), HasSubstr("unknown GPU \"Z9\"; known are V100, A100"));
}

}  // namespace
}  // namespace tandem::placement
