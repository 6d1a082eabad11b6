// Against the libraries of fake_nvml.cc; FAKE_NVML and FAKE_NVML_OLD are their paths.
#include "worker/topology/nvml_reader.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::worker {
namespace {

using placement::PathKind;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

absl::StatusOr<NvmlFacts> Read(const char* machine, const char* library = FAKE_NVML) {
  setenv("TANDEM_FAKE_NVML", machine, 1);
  return ReadNvml(library);
}

const NvmlLink& LinkOf(const NvmlFacts& facts, int a, int b) {
  for (const NvmlLink& link : facts.links) {
    if (link.a == a && link.b == b) return link;
  }
  ADD_FAILURE() << "no link of " << a << " and " << b;
  return facts.links.front();
}

TEST(NvmlReaderTest, ASwitchIsToldFromAMesh) {
  const auto facts = Read("h100");
  ASSERT_TRUE(facts.ok()) << facts.status();
  ASSERT_EQ(facts->devices.size(), 8u);
  ASSERT_EQ(facts->links.size(), 28u);
  for (const NvmlLink& link : facts->links) {
    EXPECT_EQ(link.kind, PathKind::kNvSwitch);
    EXPECT_EQ(link.nvlinks, 18);
    EXPECT_EQ(link.peer_access, true);
  }
  EXPECT_EQ(facts->devices[0].bus_id, "00000000:10:00.0");
  EXPECT_EQ(facts->devices[5].numa, 1);
  EXPECT_EQ(facts->devices[0].memory_total, int64_t{80} << 30);
  EXPECT_THAT(facts->notes, IsEmpty());
}

TEST(NvmlReaderTest, TheMeshOfADgx1HasItsDoubleAndSingleLinks) {
  const auto facts = Read("dgx1");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(LinkOf(*facts, 0, 3).nvlinks, 2);
  EXPECT_EQ(LinkOf(*facts, 0, 1).nvlinks, 1);
  EXPECT_EQ(LinkOf(*facts, 0, 1).kind, PathKind::kNvLink);
  EXPECT_EQ(LinkOf(*facts, 0, 5).kind, PathKind::kSys) << "no link of their own";
  EXPECT_EQ(LinkOf(*facts, 0, 5).nvlinks, 0);
  EXPECT_THAT(facts->notes, IsEmpty());
}

TEST(NvmlReaderTest, ABridgeAndItsAbsence) {
  const auto bridge = Read("bridge");
  ASSERT_TRUE(bridge.ok()) << bridge.status();
  EXPECT_EQ(LinkOf(*bridge, 0, 1).kind, PathKind::kNvLink);
  EXPECT_EQ(LinkOf(*bridge, 0, 1).nvlinks, 4);
  const auto plain = Read("no p2p");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(LinkOf(*plain, 0, 1).kind, PathKind::kPhb);
  EXPECT_EQ(LinkOf(*plain, 0, 1).peer_access, false);
}

TEST(NvmlReaderTest, LinksThatDisagreeCountAsTheLesser) {
  const auto facts = Read("flapping");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(LinkOf(*facts, 0, 1).nvlinks, 3);
  EXPECT_THAT(facts->notes, Contains(HasSubstr("disagree on their NVLinks: 4 and 3")));
}

TEST(NvmlReaderTest, SlicesHaveNoNvLink) {
  const auto facts = Read("mig");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_TRUE(facts->devices[0].mig);
  EXPECT_EQ(LinkOf(*facts, 0, 1).kind, PathKind::kPhb);
  EXPECT_THAT(facts->notes, Contains(HasSubstr("MIG mode")));
}

// Without the type of the far end, what is no GPU of this host is a switch.
TEST(NvmlReaderTest, AnOldDriverTellsLessAndNothingWrong) {
  const auto mesh = Read("dgx1", FAKE_NVML_OLD);
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  EXPECT_EQ(LinkOf(*mesh, 0, 3).nvlinks, 2);
  EXPECT_EQ(mesh->devices[0].memory_total, int64_t{24} << 30);
  EXPECT_EQ(mesh->devices[0].numa, -1);
  EXPECT_FALSE(LinkOf(*mesh, 0, 3).peer_access.has_value());
  EXPECT_THAT(mesh->notes, Contains("this driver does not tell peer access")) << "once, not for each pair";
  EXPECT_EQ(mesh->notes.size(), 4u);
  const auto switched = Read("h100", FAKE_NVML_OLD);
  ASSERT_TRUE(switched.ok()) << switched.status();
  EXPECT_EQ(LinkOf(*switched, 0, 7).kind, PathKind::kNvSwitch);
}

TEST(NvmlReaderTest, ErrorsCostFactsAndNothingElse) {
  const auto facts = Read("errors");
  ASSERT_TRUE(facts.ok()) << facts.status();
  ASSERT_EQ(facts->devices.size(), 2u);
  EXPECT_EQ(facts->devices[0].memory_total, 0);
  EXPECT_EQ(LinkOf(*facts, 0, 1).kind, PathKind::kSys);
  EXPECT_FALSE(LinkOf(*facts, 0, 1).peer_access.has_value());
  EXPECT_THAT(facts->notes, Contains(HasSubstr("device 0 does not tell its memory: Unknown Error")));
  const auto lost = Read("lost");
  ASSERT_TRUE(lost.ok()) << lost.status();
  EXPECT_EQ(lost->devices.size(), 1u);
  EXPECT_THAT(lost->notes, Contains(HasSubstr("GPU is lost")));
}

TEST(NvmlReaderTest, NoLibraryNoDriverNoDevices) {
  EXPECT_EQ(Read("", "/nowhere/libnvidia-ml.so.1").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Read("", "libc.so.6").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Read("no driver").status().message()), HasSubstr("Driver Not Loaded"));
  const auto none = Read("none");
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_TRUE(none->devices.empty() && none->links.empty());
}

}  // namespace
}  // namespace tandem::worker
