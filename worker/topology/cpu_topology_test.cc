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

TEST(CoreListTest, StopsAtNonsense) {
  EXPECT_THAT(ParseCoreList(" 0-2,5 \n"), testing::ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(ParseCoreList("3,x,4"), testing::ElementsAre(3));
  EXPECT_THAT(ParseCoreList("5-3"), testing::IsEmpty());
  EXPECT_EQ(ParseCoreList("0-2000000000").size(), 4096u);
}

}  // namespace
}  // namespace tandem::worker
