#include "worker/sim_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace tandem::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Refusal(const SimDeviceOptions& options) {
  const auto device = SimDevice::Open(options);
  return device.ok() ? "accepted" : std::string(device.status().message());
}

TEST(SimDevice, IsTheChipOfItsDataSheet) {
  const auto device = SimDevice::Open({.spec = "sim:RTX3090:3", .node = "box", .memory_utilization = 0.5}).value();
  EXPECT_EQ(device->Name(), "box/sim:3");
  EXPECT_EQ(device->kind(), "sim");
  EXPECT_EQ(device->model(), "RTX3090");
  EXPECT_EQ(device->memory_total(), int64_t{24} << 30);
  EXPECT_EQ(device->FreeBytes(), int64_t{12} << 30);
  EXPECT_THAT(device->uuid(), StartsWith("SIM-"));
}

TEST(SimDevice, LeavesToOthersWhatIsReserved) {
  const auto device =
      SimDevice::Open({.spec = "sim:RTX3090", .memory_utilization = 0.5, .reserve = int64_t{8} << 30}).value();
  EXPECT_EQ(device->FreeBytes(), int64_t{8} << 30);
  EXPECT_THAT(Refusal({.spec = "sim:RTX3090", .reserve = int64_t{24} << 30}), HasSubstr("--reserve 25769803776"));
}

TEST(SimDevice, MemoryThatALoadTookIsGone) {
  const auto device = SimDevice::Open({.spec = "sim:L4", .memory_utilization = 1}).value();
  device->memory().Take(5);
  EXPECT_EQ(device->FreeBytes(), (int64_t{24} << 30) - 5);
  EXPECT_EQ(device->FreeOfTotal(), (int64_t{24} << 30) - 5);
  EXPECT_EQ(device->HeldBytes(), 5);
}

TEST(SimDevice, ManyOfAProcessAreCountedThrough) {
  std::set<std::string> uuids;
  for (int offset = 0; offset < 3; ++offset) {
    const auto device = SimDevice::Open({.spec = "sim:H100:2", .offset = offset, .node = "box"}).value();
    EXPECT_EQ(device->index(), 2 + offset);
    uuids.insert(device->uuid());
  }
  EXPECT_EQ(uuids.size(), 3u);
}

TEST(SimDevice, WhatItCanNotBeIsSaidInOneLine) {
  EXPECT_THAT(Refusal({.spec = "sim:RTX9999"}),
              AllOf(HasSubstr("--device sim:RTX9999: no chip \"RTX9999\""), HasSubstr("H100"), HasSubstr("RTX3090")));
  EXPECT_THAT(Refusal({.spec = "sim:"}), HasSubstr("no chip \"\" is known"));
  EXPECT_THAT(Refusal({.spec = "sim:H100:x"}), HasSubstr("\"x\" is no index"));
  EXPECT_THAT(Refusal({.spec = "sim:H100:-1"}), HasSubstr("\"-1\" is no index"));
  EXPECT_THAT(Refusal({.spec = "sim:A100"}), HasSubstr("several sizes; give --sim-memory"));
  EXPECT_EQ(SimDevice::Open({.spec = "sim:A100", .memory = 1 << 30}).value()->memory_total(), 1 << 30);
}

}  // namespace
}  // namespace tandem::worker
