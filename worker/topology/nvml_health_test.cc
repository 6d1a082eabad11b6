// Against the library of fake_nvml.cc, whose card is as ill as the file says that TANDEM_FAKE_NVML_HEALTH names.
#include "worker/topology/nvml_health.h"

#include <cstdlib>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class NvmlHealthTest : public testing::Test {
 protected:
  void SetUp() override {
    Ill("");
    setenv("TANDEM_FAKE_NVML", "bridge", 1);
    setenv("TANDEM_FAKE_NVML_HEALTH", path_.c_str(), 1);
    auto opened = NvmlDeviceMonitor::Open("GPU-0", FAKE_NVML);
    ASSERT_TRUE(opened.ok()) << opened.status();
    monitor_ = *std::move(opened);
    health_ = std::make_unique<NvmlHealth>(monitor_.get());
  }
  void TearDown() override { unsetenv("TANDEM_FAKE_NVML_HEALTH"); }

  void Ill(const std::string& words) { std::ofstream(path_) << words; }
  // "+code", "-code", "!code" for what lasts, is over, happened.
  std::vector<std::string> Look(int looks = 1) {
    std::vector<std::string> said;
    for (int i = 0; i < looks; ++i) {
      for (const HealthReport& news : health_->Look()) {
        said.push_back((news.cleared ? "-" : news.lasting ? "+" : "!") + news.code);
      }
    }
    return said;
  }

  const std::string path_ = testing::TempDir() + "/nvml_health";
  std::unique_ptr<NvmlDeviceMonitor> monitor_;
  std::unique_ptr<NvmlHealth> health_;
};

TEST_F(NvmlHealthTest, AHealthyCardSaysNothing) { EXPECT_THAT(Look(5), IsEmpty()); }

TEST_F(NvmlHealthTest, AnXidHappensOnceHoweverOftenItIsSaidAtOnce) {
  Ill("0 xid 31 31 31 79");
  EXPECT_THAT(Look(2), ElementsAre("!XID 31", "!XID 79"));
  Ill("0 xid 31 31 31 79 31");
  EXPECT_THAT(Look(), ElementsAre("!XID 31"));
}

TEST_F(NvmlHealthTest, TheOtherCardsErrorsAreNotOurs) {
  Ill("1 xid 79\n1 lost\n1 throttle 64");
  EXPECT_THAT(Look(5), IsEmpty());
}

TEST_F(NvmlHealthTest, AnNvLinkThatWasUpIsDown) {
  Look();
  Ill("0 down 2");
  EXPECT_THAT(Look(3), ElementsAre("+nvlink-down"));
  Ill("");
  EXPECT_THAT(Look(3), ElementsAre("-nvlink-down"));
}

// A bridge that is plugged into two of four places is as it should be.
TEST_F(NvmlHealthTest, AnNvLinkThatNeverWasUpIsNotDown) {
  Ill("0 down 2");
  EXPECT_THAT(Look(3), IsEmpty());
}

TEST_F(NvmlHealthTest, LinkErrorsThatRiseAreToldOnce) {
  Ill("0 linkerrors 5");
  Look();
  Ill("0 linkerrors 9");
  EXPECT_THAT(Look(), ElementsAre("+nvlink-errors"));
  Ill("0 linkerrors 12");
  EXPECT_THAT(Look(3), IsEmpty());
}

TEST_F(NvmlHealthTest, HeatCountsWhenItStays) {
  Ill("0 throttle 64");
  EXPECT_THAT(Look(2), IsEmpty());
  Ill("");
  Look();
  Ill("0 throttle 64");
  EXPECT_THAT(Look(3), ElementsAre("+thermal-hardware"));
  Ill("");
  EXPECT_THAT(Look(9), IsEmpty());
  EXPECT_THAT(Look(), ElementsAre("-thermal-hardware"));
}

TEST_F(NvmlHealthTest, RowsAndPages) {
  Ill("0 remap 1 0\n0 pages");
  EXPECT_THAT(Look(), ElementsAre("+row-remap-pending", "+pages-pending"));
  Ill("0 remap 1 1");
  EXPECT_THAT(Look(), ElementsAre("+row-remap-failed", "-pages-pending"));
}

TEST_F(NvmlHealthTest, ErrorsBeyondRepairAreCountedWhereNoEventComes) {
  Ill("0 ecc 3");
  EXPECT_THAT(Look(), IsEmpty()) << "what was before this process";
  Ill("0 ecc 4");
  EXPECT_THAT(Look(2), ElementsAre("!ecc-uncorrected"));
}

TEST_F(NvmlHealthTest, ALostCardIsNotAskedAnythingElse) {
  Look();
  Ill("0 lost\n0 down 1\n0 throttle 64");
  EXPECT_THAT(Look(5), ElementsAre("+device-lost"));
}

TEST_F(NvmlHealthTest, AnOldDriverTellsWhatItCan) {
  auto opened = NvmlDeviceMonitor::Open("GPU-0", FAKE_NVML_OLD);
  ASSERT_TRUE(opened.ok()) << opened.status();
  NvmlHealth health(opened->get());
  Ill("0 xid 79\n0 remap 1 1\n0 down 0");
  EXPECT_THAT(health.Look(), IsEmpty());
  Ill("0 lost");
  EXPECT_EQ(health.Look().size(), 1u);
}

}  // namespace
}  // namespace tandem::worker
