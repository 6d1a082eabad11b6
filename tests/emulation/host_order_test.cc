// What a host gets wrong about the order of its own doings and the device's, planted: the emulation has to show it
// every time, since on a device it shows once in a thousand steps.
#include <cuda_runtime.h>

#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/emulation/control.h"
#include "tests/emulation/findings.h"
#include "worker/cuda/launch.h"

namespace tandem::emulation {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using worker::cuda::Launch;

constexpr size_t kBytes = 4096;

__global__ void FillKernel(uint8_t* data, uint8_t value) { data[blockIdx.x * blockDim.x + threadIdx.x] = value; }

class HostOrder : public testing::Test {
 protected:
  void SetUp() override {
    SetMachine({.lag = std::chrono::hours(1)});  // the device does nothing before it is waited for
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&device_), kBytes), cudaSuccess);
    ASSERT_EQ(cudaHostAlloc(reinterpret_cast<void**>(&pinned_), kBytes, cudaHostAllocDefault), cudaSuccess);
    std::memset(pinned_, 1, kBytes);
  }
  void TearDown() override {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
    cudaFree(device_);
    if (pinned_ != nullptr) cudaFreeHost(pinned_);
    EXPECT_THAT(TakeFindings(), IsEmpty());
  }
  cudaError_t Send() { return cudaMemcpyAsync(device_, pinned_, kBytes, cudaMemcpyHostToDevice, stream_); }
  absl::Status Fill() {
    return Launch("Fill", &FillKernel, {dim3(kBytes / 256), dim3(256)}, stream_, device_, uint8_t{5});
  }

  cudaStream_t stream_ = nullptr;
  uint8_t* device_ = nullptr;
  uint8_t* pinned_ = nullptr;
};

TEST_F(HostOrder, WhatWasSentMayBeWrittenToOnceTheStreamIsPastIt) {
  ASSERT_EQ(Send(), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  std::memset(pinned_, 2, kBytes);
}

TEST_F(HostOrder, WhatIsBeingSentMayNotBeWrittenTo) {
  for (const bool rows : {false, true}) {
    ASSERT_EQ(rows ? cudaMemcpy2DAsync(device_, 64, pinned_, 64, 32, 64, cudaMemcpyHostToDevice, stream_) : Send(),
              cudaSuccess);
    pinned_[rows ? 64 : 100] ^= 2;
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_THAT(TakeFindings(), ElementsAre(HasSubstr("host memory was written to between")));
  }
  // Between the rows there is nothing of the copy.
  ASSERT_EQ(cudaMemcpy2DAsync(device_, 64, pinned_, 64, 32, 64, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  pinned_[40] ^= 2;
}

TEST_F(HostOrder, WhatIsBeingSentMayNotBeGivenBack) {
  uint8_t* sent = nullptr;
  ASSERT_EQ(cudaHostAlloc(reinterpret_cast<void**>(&sent), kBytes, cudaHostAllocDefault), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(device_, sent, kBytes, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  ASSERT_EQ(cudaFreeHost(sent), cudaSuccess);
  EXPECT_THAT(TakeFindings(), ElementsAre(HasSubstr("given back before a copy from it was done")));
}

TEST_F(HostOrder, WhatIsReadTooSoonIsWhatWasThereBefore) {
  ASSERT_TRUE(Fill().ok());
  ASSERT_EQ(cudaMemcpyAsync(pinned_, device_, kBytes, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(pinned_[7], 1) << "the planted error: nobody waited";
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(pinned_[7], 5);
}

TEST_F(HostOrder, AKernelIsLaunchedBeforeItIsCaptured) {
  for (const bool first : {true, false}) {
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    ASSERT_TRUE(Fill().ok());
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    if (first) {
      EXPECT_THAT(TakeFindings(), ElementsAre("Fill: launched for the first time within a capture"));
    }
  }
}

// The attribute is one of the kernel on one device.
TEST_F(HostOrder, MoreSharedMemoryIsAskedForOnEachDevice) {
  constexpr size_t kMore = 60 << 10;
  uint8_t value = 5;
  void* arguments[] = {&device_, &value, nullptr};
  ASSERT_EQ(cudaFuncSetAttribute(&FillKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMore), cudaSuccess);
  EXPECT_EQ(cudaLaunchKernel(&FillKernel, dim3(1), dim3(32), arguments, kMore, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaStreamCreate(&other), cudaSuccess);
  EXPECT_EQ(cudaLaunchKernel(&FillKernel, dim3(1), dim3(32), arguments, kMore, other), cudaErrorInvalidConfiguration);
  cudaStreamDestroy(other);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

}  // namespace
}  // namespace tandem::emulation
