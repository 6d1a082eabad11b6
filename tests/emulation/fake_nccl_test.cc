// That the fake NCCL is as strict as NCCL may be: each case plants what a caller may get wrong.
#include <cuda_runtime.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "gtest/gtest.h"
#include "tests/emulation/control.h"

namespace tandem::emulation {
namespace {

class FakeNcclTest : public testing::Test {
 protected:
  void SetUp() override {
    SetMachine({.devices = 2});
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&memory_, 4096), cudaSuccess);
    comm_ = Start();
  }
  void TearDown() override {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
    cudaFree(memory_);
    unsetenv("TANDEM_FAKE_NCCL");
  }

  // From now on a call takes its time, so that whoever does not wait for it is too early.
  void TakeLonger() {
    EXPECT_EQ(ncclCommAbort(comm_), ncclSuccess);
    setenv("TANDEM_FAKE_NCCL", "*:later=1000", 1);
    comm_ = Start();
  }
  // A communicator of one rank, on the current device.
  static ncclComm_t Start() {
    ncclUniqueId id{};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm = nullptr;
    EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
    EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInProgress);
    Settle(comm);
    return comm;
  }
  static void Settle(ncclComm_t comm) {
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress) {
      ASSERT_EQ(ncclCommGetAsyncError(comm, &state), ncclSuccess);
      std::this_thread::yield();
    }
    ASSERT_EQ(state, ncclSuccess);
  }
  ncclResult_t Sum() { return ncclAllReduce(memory_, memory_, 16, ncclFloat32, ncclSum, comm_, stream_); }
  // How many operations a capture of one sum has.
  size_t Captured(bool settles) {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(Sum(), ncclInProgress);
    if (settles) Settle(comm_);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    size_t nodes = 0;
    EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return nodes;
  }

  cudaStream_t stream_ = nullptr;
  void* memory_ = nullptr;
  ncclComm_t comm_ = nullptr;
};

TEST_F(FakeNcclTest, ACallUnderWayBearsNoOther) {
  TakeLonger();
  EXPECT_EQ(Sum(), ncclInProgress);
  EXPECT_EQ(Sum(), ncclInvalidUsage) << "before the first one was accepted";
  Settle(comm_);
  EXPECT_EQ(Sum(), ncclInProgress);
  Settle(comm_);
  EXPECT_EQ(ncclCommAbort(comm_), ncclSuccess);
}

TEST_F(FakeNcclTest, ACaptureThatEndsTooSoonHasNothingOfTheCall) {
  TakeLonger();
  EXPECT_EQ(Captured(/*settles=*/true), 1u);
  EXPECT_EQ(Captured(/*settles=*/false), 0u);
  Settle(comm_);
  EXPECT_EQ(ncclCommAbort(comm_), ncclSuccess);
}

TEST_F(FakeNcclTest, ACommunicatorEndsAfterTheGraphsThatHoldIt) {
  for (const bool aborts : {true, false}) {
    if (!aborts) comm_ = Start();
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    ASSERT_EQ(Sum(), ncclInProgress);
    Settle(comm_);
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    std::atomic<bool> ended{false};
    std::thread ends([&] {
      if (aborts) {
        ncclCommAbort(comm_);
      } else {
        EXPECT_EQ(ncclCommFinalize(comm_), ncclInProgress);
        Settle(comm_);
        EXPECT_EQ(ncclCommDestroy(comm_), ncclSuccess);
      }
      ended = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // what must not happen can not be awaited
    EXPECT_FALSE(ended) << "the graph is still there, aborts: " << aborts;
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    ends.join();
  }
}

TEST_F(FakeNcclTest, AnAbortLeavesAContextWhereItsThreadCameFrom) {
  EXPECT_EQ(ncclCommAbort(comm_), ncclSuccess);
  SetMachine({.devices = 2});
  int count = 0;
  cudaGetDeviceCount(&count);
  EXPECT_FALSE(HasContext(0)) << "a question makes none";
  cudaSetDevice(1);
  comm_ = Start();
  EXPECT_FALSE(HasContext(0));
  EXPECT_TRUE(HasContext(1));
  std::thread([this] { ncclCommAbort(comm_); }).join();
  EXPECT_TRUE(HasContext(0)) << "the planted error: a new thread is on device 0";
  cudaSetDevice(0);
  SetMachine({.devices = 2});
  stream_ = nullptr, memory_ = nullptr;
}

}  // namespace
}  // namespace tandem::emulation
