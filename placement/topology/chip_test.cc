#include "placement/topology/chip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tandem::placement {
namespace {

std::string Found(absl::string_view name) {
  const Chip* chip = FindChip(name);
  return chip == nullptr ? "none" : chip->name;
}

TEST(ChipTest, IsFoundByItsOwnNameInAnyCase) {
  for (const char* name : {"V100", "A100", "A30", "A40", "A10", "A6000", "K80", "RTX3090", "RTX4090", "L4", "L40S",
                           "H100", "H100-PCIe", "H20", "H200", "B200", "GB200", "GB10", "T4"}) {
    EXPECT_EQ(Found(name), name);
  }
  EXPECT_EQ(Found("h100-pcie"), "H100-PCIe");
  EXPECT_EQ(Found("rtx3090"), "RTX3090");
}

TEST(ChipTest, IsFoundByTheNameThatNvmlGives) {
  EXPECT_EQ(Found("NVIDIA A100-SXM4-80GB"), "A100");
  EXPECT_EQ(Found("NVIDIA A100 80GB PCIe"), "A100");
  EXPECT_EQ(Found("Tesla V100-SXM2-16GB"), "V100");
  EXPECT_EQ(Found("NVIDIA GeForce RTX 3090"), "RTX3090");
  EXPECT_EQ(Found("NVIDIA GeForce RTX 4090"), "RTX4090");
  EXPECT_EQ(Found("NVIDIA H100 80GB HBM3"), "H100");
  EXPECT_EQ(Found("NVIDIA H100 PCIe"), "H100-PCIe");
  EXPECT_EQ(Found("NVIDIA RTX A6000"), "A6000");
  EXPECT_EQ(Found("NVIDIA L40S"), "L40S");
}

TEST(ChipTest, OneThatIsOnlySimilarIsNotFound) {
  EXPECT_EQ(Found(""), "none");
  EXPECT_EQ(Found("A1000"), "none");
  EXPECT_EQ(Found("L40"), "none");
  EXPECT_EQ(Found("RTX 3080"), "none");
  EXPECT_EQ(Found("NVIDIA GH200 480GB"), "none");
}

TEST(ChipTest, AGenerationStandsForItsFirstChip) {
  EXPECT_STREQ(FindChipBySm(70)->name, "V100");
  EXPECT_STREQ(FindChipBySm(80)->name, "A100");
  EXPECT_STREQ(FindChipBySm(90)->name, "H100");
  EXPECT_STREQ(FindChipBySm(100)->name, "B200");
  EXPECT_EQ(FindChipBySm(12), nullptr);
}

TEST(ChipTest, MessagesNameThemAll) {
  EXPECT_THAT(std::string(KnownChips()), testing::HasSubstr("H100-PCIe, H20, H200"));
}

TEST(ChipTest, LinksAreThoseOfTheDataSheet) {
  EXPECT_EQ(FindChip("V100")->nvlinks * FindChip("V100")->nvlink_mbps, 120'000);
  EXPECT_EQ(FindChip("A100")->nvlinks * FindChip("A100")->nvlink_mbps, 240'000);
  EXPECT_EQ(FindChip("RTX3090")->nvlinks * FindChip("RTX3090")->nvlink_mbps, 48'000);
  EXPECT_EQ(FindChip("K80")->nvlinks, 0);
  EXPECT_FALSE(FindChip("RTX4090")->peer_over_pcie);
}

}  // namespace
}  // namespace tandem::placement
