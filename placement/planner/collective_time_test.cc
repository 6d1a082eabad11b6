#include "placement/planner/collective_time.h"

#include <algorithm>
#include <limits>

#include "gtest/gtest.h"

namespace tandem::placement {
namespace {

Ring RingOf(int64_t gbps, HopClass hop) {
  Ring ring;
  ring.mbps = gbps * 1000;
  ring.hop = hop;
  return ring;
}

struct Row {
  const char* group;
  HopClass hop;
  int ranks;
  int64_t gbps;
  double us[3];  // 16 KiB, 512 KiB, 32 MiB
};

// NCCL's model, computed apart from this code and rounded to microseconds.
constexpr Row kRows[] = {
    {"V100 pair NV2", HopClass::kNvLink, 2, 40, {9, 28, 854}},
    {"V100 pair NV1", HopClass::kNvLink, 2, 20, {9, 41, 1693}},
    {"V100 pair SYS", HopClass::kPci, 2, 10, {12, 72, 3375}},
    {"V100 quad", HopClass::kNvLink, 4, 80, {11, 30, 658}},
    {"V100 quad of a square", HopClass::kNvLink, 4, 60, {11, 36, 868}},
    {"V100 quad with a PCIe hop", HopClass::kPci, 4, 10, {18, 121, 5076}},
    {"A100 PCIe pair NV12", HopClass::kNvLink, 2, 240, {8, 14, 155}},
    {"A100 PCIe quad NODE", HopClass::kPci, 4, 24, {15, 75, 2140}},
    {"A100 PCIe quad SYS", HopClass::kPci, 4, 22, {15, 78, 2330}},
    {"A100 mesh pair", HopClass::kNvLink, 2, 80, {8, 21, 435}},
    {"A100 mesh quad", HopClass::kNvLink, 4, 240, {10, 19, 239}},
    {"H100 switch x4", HopClass::kNvLink, 4, 370, {10, 16, 165}},
    {"H100 switch x8", HopClass::kNvLink, 8, 370, {15, 22, 213}},
    {"3090 pair NV4", HopClass::kNvLink, 2, 48, {8, 26, 714}},
    {"3090 pair PHB", HopClass::kPci, 2, 24, {10, 42, 1418}},
};

TEST(CollectiveTimeTest, AgreesWithNcclsModel) {
  for (const Row& row : kRows) {
    const int64_t bytes[] = {16 << 10, 512 << 10, 32 << 20};
    for (int i = 0; i < 3; ++i) {
      const double us = AllReduceNs(RingOf(row.gbps, row.hop), row.ranks, bytes[i], 1, 1000) / 1000.0;
      EXPECT_NEAR(us, row.us[i], std::max(1.0, row.us[i] * 0.03)) << row.group << ", " << bytes[i] << " bytes";
    }
  }
}

TEST(CollectiveTimeTest, OneRankSendsNothing) {
  EXPECT_EQ(AllReduceNs(Ring(), 1, 1 << 20), 0);
  EXPECT_EQ(CommunicationNsPerToken(Ring(), 1, Workload()), 0);
}

TEST(CollectiveTimeTest, AnotherHostCostsTheNetworksLatency) {
  const Ring ring = RingOf(12, HopClass::kNet);
  // One more host replaces two hops over PCIe by two over the network, in the quickest protocol of a small message.
  EXPECT_EQ(AllReduceNs(ring, 4, 0, 2) - AllReduceNs(ring, 4, 0, 1), 2 * (2700 - 1000));
}

TEST(CollectiveTimeTest, SmallMessagesBetweenCpuRanksTakeWhatWasMeasured) {
  const int64_t ns = AllReduceNs(RingOf(8, HopClass::kSharedMemory), 2, 4 << 10, 1, 1000);
  EXPECT_NEAR(ns / 1000.0, 2.25, 0.1);
}

TEST(CollectiveTimeTest, WhatIsOffTheScaleIsTheLongestTime) {
  Ring dead;
  dead.hop = HopClass::kPci;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(AllReduceNs(dead, 16, kMost), kMost);
  Workload workload;
  workload.hidden = workload.layers = workload.prefill_chunk = std::numeric_limits<int>::max();
  EXPECT_EQ(CommunicationNsPerToken(dead, 16, workload), kMost);
}

TEST(CollectiveTimeTest, LongerPromptsWeighBandwidthMore) {
  const Ring fast = RingOf(80, HopClass::kNvLink), slow = RingOf(10, HopClass::kPci);
  Workload chat, summary;
  chat.prompt_tokens = 64;
  summary.prompt_tokens = 8192;
  const auto ratio = [&](const Workload& workload) {
    return static_cast<double>(CommunicationNsPerToken(slow, 4, workload)) / CommunicationNsPerToken(fast, 4, workload);
  };
  EXPECT_GT(ratio(summary), 1.1 * ratio(chat));
}

TEST(CollectiveTimeTest, TwoAllReducesALayerAndOneForTheEmbedding) {
  const Ring ring = RingOf(48, HopClass::kNvLink);
  Workload workload;
  workload.prompt_tokens = 0;
  workload.decode_batch = 1;
  workload.layers = 24;
  workload.hidden = 1024;
  EXPECT_EQ(CommunicationNsPerToken(ring, 2, workload), 49 * AllReduceNs(ring, 2, 2048));
}

}  // namespace
}  // namespace tandem::placement
