#include "worker/topology/cpu_topology.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::worker {
namespace {

using placement::PathKind;

class CpuTopologyTest : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = root_ + "/sys/devices/system/node/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  ~CpuTopologyTest() override { std::filesystem::remove_all(root_); }

  const std::string root_ =
      testing::TempDir() + "cpu_topology_" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(CpuTopologyTest, TwoSocketsAreFarFromEachOther) {
  Write("online", "0-1");
  Write("node0/cpulist", "0-3,8-11");
  Write("node0/distance", "10 21");
  Write("node1/cpulist", "4-7");
  Write("node1/distance", "21 10");
  const CpuTopology topology = ReadCpuTopology(root_);
  EXPECT_EQ(topology.NodeOf(9), 0);
  EXPECT_EQ(topology.NodeOf(4), 1);
  EXPECT_EQ(topology.NodeOf(12), -1);
  EXPECT_EQ(topology.Distance(0, 1), 21);
  EXPECT_EQ(topology.Distance(0, 2), -1);
  EXPECT_EQ(topology.LinkBetween(0, 0), PathKind::kSharedMemory);
  EXPECT_EQ(topology.LinkBetween(0, 1), PathKind::kSys);
  EXPECT_EQ(topology.LinkBetween(-1, 0), PathKind::kSys) << "one that may run anywhere may run far away";
}

TEST_F(CpuTopologyTest, OneNodeIsSharedByAll) {
  Write("online", "0");
  Write("node0/cpulist", "0-1");
  Write("node0/distance", "10");
  EXPECT_EQ(ReadCpuTopology(root_).LinkBetween(-1, -1), PathKind::kSharedMemory);
}

// Memory expanders and the memory of some accelerators are nodes without cores.
TEST_F(CpuTopologyTest, MemoryWithoutCoresIsNoSecondSocket) {
  Write("online", "0,2");
  Write("node0/cpulist", "0-3");
  Write("node0/distance", "10 24");
  Write("node2/cpulist", "");
  Write("node2/distance", "24 10");
  const CpuTopology topology = ReadCpuTopology(root_);
  EXPECT_EQ(topology.LinkBetween(0, -1), PathKind::kSharedMemory);
  EXPECT_EQ(topology.Distance(2, 0), 24);
}

TEST_F(CpuTopologyTest, NothingToReadIsOneNode) {
  const CpuTopology topology = ReadCpuTopology(root_ + "/nowhere");
  EXPECT_TRUE(topology.nodes.empty());
  EXPECT_EQ(topology.NodeOf(0), -1);
  EXPECT_EQ(topology.LinkBetween(-1, -1), PathKind::kSharedMemory);
}

class CpuCacheTest : public CpuTopologyTest {
 protected:
  void Cache(int core, int index, const std::string& level, const std::string& type, const std::string& size,
             const std::string& cores) {
    const std::string base = "../cpu/cpu" + std::to_string(core) + "/cache/index" + std::to_string(index) + "/";
    Write(base + "level", level);
    Write(base + "type", type);
    if (!size.empty()) Write(base + "size", size);
    if (!cores.empty()) Write(base + "shared_cpu_list", cores);
  }
};

TEST_F(CpuCacheTest, EachCacheIsToldOnceWithWhoSharesIt) {
  Write("../cpu/online", "0-3");
  for (int core = 0; core < 4; ++core) {
    Cache(core, 0, "1", "Data", "32K", std::to_string(core));
    Cache(core, 1, "1", "Instruction", "32K", std::to_string(core));
    Cache(core, 2, "2", "Unified", "1024K", std::to_string(core));
    Cache(core, 3, "3", "Unified", "32768K", core < 2 ? "0-1" : "2-3");
  }
  const CpuTopology topology = ReadCpuTopology(root_);
  ASSERT_EQ(topology.caches.size(), 6u) << "four of the second level, two of the third";
  EXPECT_EQ(topology.caches[0].level, 2);
  EXPECT_EQ(topology.caches[0].bytes, 1 << 20);
  const std::vector<CpuCache> of_two = topology.CachesOf({2});
  ASSERT_EQ(of_two.size(), 2u);
  EXPECT_EQ(of_two[1].level, 3);
  EXPECT_EQ(of_two[1].bytes, 32 << 20);
  EXPECT_EQ(CoreListText(of_two[1].cores), "2-3");
  EXPECT_EQ(topology.CachesOf({0, 1, 2, 3}).size(), 6u);
  EXPECT_TRUE(topology.CachesOf({9}).empty());
}

// What virtual machines and containers show: sizes left out, no sharers, words instead of numbers, cores that are gone.
TEST_F(CpuCacheTest, OddTreesAreReadAsFarAsTheyGo) {
  Write("../cpu/online", "0-2,7");
  Cache(0, 2, "2", "Unified", "", "");
  Cache(1, 2, "two", "Unified", "1M", "1");
  Cache(1, 3, "3", "Unified", "16M", "0");  // it does not name itself
  Cache(2, 2, "2", "Unified", "99999999999999999999K", "2,2,1,1");
  Cache(2, 3, "77", "Unified", "1K", "2");
  Cache(2, 4, "3", "Instruction", "1K", "2");
  const CpuTopology topology = ReadCpuTopology(root_);
  ASSERT_EQ(topology.caches.size(), 3u);
  EXPECT_EQ(topology.caches[0].bytes, 0) << "not told";
  EXPECT_EQ(CoreListText(topology.caches[0].cores), "0");
  EXPECT_EQ(topology.caches[1].bytes, 0) << "no size";
  EXPECT_EQ(CoreListText(topology.caches[1].cores), "1-2");
  EXPECT_EQ(topology.caches[2].bytes, 16 << 20);
  EXPECT_EQ(CoreListText(topology.caches[2].cores), "1");
}

TEST_F(CpuCacheTest, WithoutTheFolderThereAreNone) {
  EXPECT_TRUE(ReadCpuTopology(root_).caches.empty());
  Write("../cpu/online", "0-4095");
  EXPECT_TRUE(ReadCpuTopology(root_).caches.empty());
}

TEST(CoreListTest, IsWrittenAsItIsRead) {
  for (const char* text : {"", "0", "0-3", "0-3,8", "1,3,5-6"}) EXPECT_EQ(CoreListText(ParseCoreList(text)), text);
}

TEST(CoreListTest, StopsAtNonsense) {
  EXPECT_THAT(ParseCoreList(" 0-2,5 \n"), testing::ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(ParseCoreList("3,x,4"), testing::ElementsAre(3));
  EXPECT_THAT(ParseCoreList("5-3"), testing::IsEmpty());
  EXPECT_EQ(ParseCoreList("0-2000000000").size(), 4096u);
}

}  // namespace
}  // namespace tandem::worker
