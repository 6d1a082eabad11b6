#include "worker/device_health.h"

#include <condition_variable>
#include <fstream>
#include <mutex>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(HealthFileTest, LinesThatComeAndGo) {
  const std::string path = testing::TempDir() + "/health_file";
  HealthFile file(path);
  EXPECT_THAT(file.Look(), IsEmpty()) << "no file";
  std::ofstream(path) << "XID 79: the bus\nthermal-hardware\n";
  EXPECT_THAT(file.Look(), ElementsAre(HealthReport{"XID 79", "the bus", false, false},
                                       HealthReport{"thermal-hardware", "", true, false}));
  EXPECT_THAT(file.Look(), IsEmpty());
  std::ofstream(path) << "";
  EXPECT_THAT(file.Look(), ElementsAre(HealthReport{"thermal-hardware", "", true, true})) << "an XID is never over";
}

// Stops at once, also between two looks.
class OneReport final : public HealthSource {
 public:
  std::vector<HealthReport> Look() override {
    if (std::exchange(said_, true)) return {};
    return {{"XID 79", "", false, false}};
  }
  std::chrono::milliseconds Pause() const override { return std::chrono::hours(1); }

 private:
  bool said_ = false;
};

TEST(HealthWatchTest, ReportsAndEnds) {
  std::mutex mu;
  std::condition_variable changed;
  std::vector<HealthReport> told;
  {
    HealthWatch watch(std::make_unique<OneReport>(), [&](HealthReport report) {
      std::lock_guard lock(mu);
      told.push_back(std::move(report));
      changed.notify_all();
    });
    std::unique_lock lock(mu);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return !told.empty(); }));
  }
  EXPECT_EQ(told.size(), 1u);
}

}  // namespace
}  // namespace tandem::worker
