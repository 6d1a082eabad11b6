#include "worker/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace tandem::worker {
namespace {

using ::testing::HasSubstr;

// A machine made of files.
class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "device_test_" + std::to_string(getpid());
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
    Write("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Abacus 9000\nmodel name\t: Another\n");
    Write("/proc/self/cgroup", "0::/\n");
    Write("/proc/self/statm", "1000 500 100 0 0 0 0\n");
    Write("/etc/machine-id", "0123456789abcdef\n");
    options_.root = root_;
    options_.node = "box";
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string Refusal() {
    absl::StatusOr<CpuDevice> device = CpuDevice::Open(options_);
    return device.ok() ? "accepted" : std::string(device.status().message());
  }

  std::string root_;
  DeviceOptions options_;
};

TEST_F(DeviceTest, ADeviceIsItsShareOfTheHost) {
  options_.cpu_devices = 4;
  options_.memory_utilization = 0.5;
  CpuDevice device = CpuDevice::Open(options_).value();
  EXPECT_EQ(device.memory_total(), int64_t{4} << 30);
  EXPECT_EQ(device.Budget(), int64_t{2} << 30);
  EXPECT_EQ(device.FreeBytes(), (int64_t{2} << 30) - 400 * sysconf(_SC_PAGESIZE));
  EXPECT_EQ(device.FreeOfTotal(), (int64_t{4} << 30) - 400 * sysconf(_SC_PAGESIZE));
  EXPECT_EQ(device.model(), "Abacus 9000");
  EXPECT_EQ(device.node(), "box");
}

TEST_F(DeviceTest, WhatIsReservedIsLeftToOthersBeforeTheUtilisation) {
  options_.cpu_devices = 4;
  options_.memory_utilization = 0.5;
  options_.reserve = int64_t{1} << 30;
  CpuDevice device = CpuDevice::Open(options_).value();
  EXPECT_EQ(device.memory_total(), int64_t{4} << 30);
  EXPECT_EQ(device.Budget(), int64_t{3} << 29);
  options_.reserve = int64_t{4} << 30;
  EXPECT_THAT(Refusal(), HasSubstr("--reserve 4294967296: expected fewer than the 4294967296 bytes that cpu:0 has"));
}

TEST_F(DeviceTest, WhatTheMachineHasLeftIsTheLimitWhereItIsLess) {
  CpuDevice device = CpuDevice::Open(options_).value();
  EXPECT_EQ(device.memory_total(), int64_t{16} << 30);
  EXPECT_EQ(device.FreeOfTotal(), int64_t{8} << 30);
  EXPECT_EQ(device.FreeBytes(), (int64_t{8} << 30) - (device.memory_total() - device.Budget()))
      << "what the utilisation keeps free stays free, whoever holds the rest";
}

TEST_F(DeviceTest, PrivateBytesAreExactWhereTheKernelWalksThePages) {
  EXPECT_EQ(ExactPrivateBytes(root_), PrivateBytes(root_)) << "an old kernel has no rollup";
  Write("/proc/self/smaps_rollup",
        "00400000-7ffe8000 ---p 00000000 00:00 0    [rollup]\nRss:   9000 kB\nAnonymous:     1234 kB\n");
  EXPECT_EQ(ExactPrivateBytes(root_), 1234 * 1024);
}

TEST_F(DeviceTest, TheTightestControlGroupIsTheHost) {
  Write("/proc/self/cgroup", "0::/pod/container\n");
  Write("/sys/fs/cgroup/pod/memory.max", "2147483648\n");
  Write("/sys/fs/cgroup/pod/container/memory.max", "max\n");
  options_.cpu_devices = 2;
  EXPECT_EQ(CpuDevice::Open(options_)->memory_total(), int64_t{1} << 30);
}

TEST_F(DeviceTest, TheUuidStaysAndTellsDevicesApart) {
  std::string first = CpuDevice::Open(options_)->uuid();
  EXPECT_EQ(CpuDevice::Open(options_)->uuid(), first);
  EXPECT_THAT(first, ::testing::StartsWith("CPU-"));
  EXPECT_THAT(first, ::testing::Not(HasSubstr("0123456789abcdef")));
  options_.spec = "cpu:1";
  EXPECT_NE(CpuDevice::Open(options_)->uuid(), first);
  options_.spec = "cpu:0";
  options_.node = "another";
  EXPECT_NE(CpuDevice::Open(options_)->uuid(), first);
}

TEST_F(DeviceTest, WhatIsNoCpuIsRefused) {
  for (const char* spec : {"", "cpu", "cpu:", "cpu:-1", "cpu:1x", "cpu:99999", "gpu:0", "cuda:0"}) {
    options_.spec = spec;
    EXPECT_THAT(Refusal(), HasSubstr("expected cpu:N")) << spec;
  }
}

TEST_F(DeviceTest, NumbersOutOfRangeAreRefused) {
  options_.memory_utilization = 0;
  EXPECT_THAT(Refusal(), HasSubstr("--memory-utilization 0"));
  options_.memory_utilization = 1.01;
  EXPECT_THAT(Refusal(), HasSubstr("--memory-utilization 1.01"));
  options_.memory_utilization = 1;
  options_.cpu_devices = 0;
  EXPECT_THAT(Refusal(), HasSubstr("--cpu-devices 0"));
  options_.cpu_devices = 1;
  options_.cpu_memory = -1;
  EXPECT_THAT(Refusal(), HasSubstr("--cpu-memory -1"));
  options_.cpu_memory = 0;
  options_.cpu_threads = -2;
  EXPECT_THAT(Refusal(), HasSubstr("--cpu-threads -2"));
}

}  // namespace
}  // namespace tandem::worker
