#include "worker/cuda/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "worker/cuda/device_memory.h"

namespace tandem::worker::cuda {
namespace {

using std::chrono::milliseconds;

const auto kHealthy = [] { return absl::OkStatus(); };

TEST(AwaitDevice, EndsWhenTheDeviceIsDone) {
  int looks = 0;
  const auto passed = [&]() -> absl::StatusOr<bool> { return ++looks == 3; };
  EXPECT_TRUE(AwaitDevice("a step", {milliseconds(10'000), kHealthy, passed}).ok());
  EXPECT_EQ(looks, 3);
}

TEST(AwaitDevice, EndsAtItsLimit) {
  const auto never = []() -> absl::StatusOr<bool> { return false; };
  const absl::Status late = AwaitDevice("a step", {milliseconds(3), kHealthy, never});
  EXPECT_TRUE(absl::IsDeadlineExceeded(late)) << late;
  EXPECT_THAT(std::string(late.message()), testing::StartsWith("a step: the device is not done after"));
}

TEST(AwaitDevice, EndsWithTheGroup) {
  const auto never = []() -> absl::StatusOr<bool> { return false; };
  const auto dead = [] { return absl::AbortedError("rank 1 exited"); };
  EXPECT_TRUE(absl::IsAborted(AwaitDevice("a step", {milliseconds(60'000), dead, never})));
}

TEST(AwaitDevice, EndsWithTheDevicesError) {
  const auto broken = []() -> absl::StatusOr<bool> { return absl::InternalError("lost"); };
  EXPECT_TRUE(absl::IsInternal(AwaitDevice("a step", {milliseconds(60'000), kHealthy, broken})));
}

TEST(MemoryCursor, CountsWhatItWouldHandOut) {
  std::vector<uint8_t> memory(4096);
  const auto lay_out = [](MemoryCursor cursor) {
    cursor.Take<float>(3);
    cursor.Take<int32_t>(0);
    cursor.TakeBytes(257);
    return cursor.taken();
  };
  EXPECT_EQ(lay_out(MemoryCursor::Counting()), 3 * kDeviceAlignment);
  EXPECT_EQ(lay_out(MemoryCursor(memory.data(), 4096)), 3 * kDeviceAlignment);
}

}  // namespace
}  // namespace tandem::worker::cuda
