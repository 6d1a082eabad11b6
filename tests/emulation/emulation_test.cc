// The emulation itself: kernels that are right run right, and each kind of mistake planted here is found.

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/emulation/control.h"
#include "tests/emulation/findings.h"
#include "worker/cuda/launch.h"
#include "worker/cuda/ops/ptx.h"
#include "worker/cuda/ops/shared.h"

namespace tandem::emulation {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using worker::cuda::Launch;
using worker::cuda::Shared;

class Emulation : public testing::Test {
 protected:
  void SetUp() override {
    SetMachine({});
    TakeFindings();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&data_, 4096), cudaSuccess);
    ASSERT_EQ(cudaMemset(data_, 0, 4096), cudaSuccess);
  }
  void TearDown() override {
    TurnAround(false);
    SetMachine({});
    cudaFree(data_);
    cudaStreamDestroy(stream_);
    EXPECT_THAT(TakeFindings(), IsEmpty());
  }

  // Runs `kernel(data_)` with one block.
  cudaError_t Run(void (*kernel)(int*), unsigned int threads) {
    EXPECT_TRUE(Launch("Planted", kernel, {dim3(1), dim3(threads)}, stream_, data_).ok());
    return cudaStreamSynchronize(stream_);
  }

  cudaStream_t stream_ = nullptr;
  int* data_ = nullptr;
};

__global__ void SumOfThreads(int* out) {
  TANDEM_SHARED(int, sums, 32);
  int sum = static_cast<int>(threadIdx.x);
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  int total = 0;
  for (unsigned int warp = 0; warp < blockDim.x / 32; ++warp) total += sums[warp];
  out[threadIdx.x] = total;
}

TEST_F(Emulation, ThreadsMeetInShufflesAndAtBarriers) {
  for (const bool turned : {false, true}) {
    TurnAround(turned);
    ASSERT_EQ(Run(&SumOfThreads, 256), cudaSuccess);
    EXPECT_EQ(data_[0], 255 * 256 / 2);
    EXPECT_EQ(data_[255], 255 * 256 / 2);
  }
}

__global__ void ForgetsTheBarrier(int* out) {
  TANDEM_SHARED(int, places, 64);
  places[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = places[(threadIdx.x + 32) % 64];
}

TEST_F(Emulation, AReadOfWhatAnotherThreadWroteIsARace) {
  ASSERT_EQ(Run(&ForgetsTheBarrier, 64), cudaSuccess);
  EXPECT_THAT(TakeFindings(),
              testing::Contains(AllOf(HasSubstr("Planted"), HasSubstr("race on places + 0 bytes"),
                                      HasSubstr("thread 32 (warp 1) reads what thread 0 (warp 0) wrote"))));
}

__global__ void OverwritesWhatIsRead(int* out) {
  TANDEM_SHARED(int, place, 1);
  if (threadIdx.x == 0) place[0] = 1;
  __syncthreads();
  out[threadIdx.x] = place[0];
  if (threadIdx.x == 0) place[0] = 2;
}

TEST_F(Emulation, AWriteOverWhatOthersReadIsARace) {
  ASSERT_EQ(Run(&OverwritesWhatIsRead, 64), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::Contains(HasSubstr("thread 0 (warp 0) writes what several threads read")));
}

__global__ void OrderedByTheWarpBarrier(int* out) {
  TANDEM_SHARED(int, places, 64);
  places[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  out[threadIdx.x] = places[threadIdx.x ^ 1];
  __syncwarp();
  places[threadIdx.x ^ 1] = 7;
}

TEST_F(Emulation, AWarpBarrierOrdersTheThreadsOfAWarp) {
  for (const bool turned : {false, true}) {
    TurnAround(turned);
    ASSERT_EQ(Run(&OrderedByTheWarpBarrier, 64), cudaSuccess);
    EXPECT_EQ(data_[5], 4);
    EXPECT_THAT(TakeFindings(), IsEmpty());
  }
}

__global__ void OrderedByAShuffleOnly(int* out) {
  TANDEM_SHARED(int, places, 32);
  places[threadIdx.x] = 1;
  __shfl_xor_sync(0xffffffffu, 0, 1);
  out[threadIdx.x] = places[threadIdx.x ^ 1];
}

TEST_F(Emulation, AShuffleOrdersNothing) {
  ASSERT_EQ(Run(&OrderedByAShuffleOnly, 32), cudaSuccess);
  EXPECT_THAT(TakeFindings(), testing::Contains(HasSubstr("race on places")));
}

__global__ void HalfAtTheBarrier(int*) {
  if (threadIdx.x < 32) __syncthreads();
}

TEST_F(Emulation, ABarrierThatSomeThreadsMissIsADivergence) {
  EXPECT_EQ(Run(&HalfAtTheBarrier, 64), cudaErrorLaunchFailure);
  EXPECT_THAT(TakeFindings(), ElementsAre(AllOf(HasSubstr("diverged"), HasSubstr("32 of 64 threads wait"))));
  // As on a device, the error stays.
  int* more = nullptr;
  EXPECT_EQ(cudaMalloc(&more, 16), cudaErrorLaunchFailure);
}

__global__ void TwoBarriers(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    out[threadIdx.x] = 1;
    __syncthreads();
  }
}

TEST_F(Emulation, TwoBarriersAreNotOne) {
  EXPECT_EQ(Run(&TwoBarriers, 64), cudaErrorLaunchFailure);
  EXPECT_THAT(TakeFindings(), ElementsAre(HasSubstr("while others wait at that of emulation_test.cc")));
}

__global__ void NamesLanesThatLeft(int* out) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

TEST_F(Emulation, AShuffleWithLanesThatEndedIsADivergence) {
  TurnAround(true);
  EXPECT_EQ(Run(&NamesLanesThatLeft, 32), cudaErrorLaunchFailure);
  EXPECT_THAT(TakeFindings(), ElementsAre(HasSubstr("names lane 16, which has ended")));
}

__global__ void ShufflesInTwoBranches(int* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
  } else {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 2, 1);
  }
}

TEST_F(Emulation, TwoShufflesAreNotOne) {
  EXPECT_EQ(Run(&ShufflesInTwoBranches, 32), cudaErrorLaunchFailure);
  EXPECT_THAT(TakeFindings(), ElementsAre(HasSubstr("while other lanes wait in that of emulation_test.cc")));
}

__global__ void WritesBeyond(int*) {
  TANDEM_SHARED(int, places, 32);
  places[threadIdx.x + 1] = 0;
}

TEST_F(Emulation, SharedMemoryHasBounds) {
  ASSERT_EQ(Run(&WritesBeyond, 32), cudaSuccess);
  EXPECT_THAT(TakeFindings(), ElementsAre(HasSubstr("thread 31 (warp 0) writes 4 bytes out of bounds: 128 of 128")));
}

__global__ void CopiesAndWaits(const int* from, int* to, bool wait) {
  TANDEM_DYNAMIC_SHARED(int, tile);
  worker::cuda::CopyAsync16(tile + 4 * static_cast<int>(threadIdx.x), from + 4 * threadIdx.x, threadIdx.x % 2 == 0);
  worker::cuda::CommitCopies();
  if (wait) worker::cuda::AwaitCopies<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i) to[4 * threadIdx.x + i] = tile[4 * static_cast<int>(threadIdx.x) + i];
}

TEST_F(Emulation, AnAsynchronousCopyArrivesWhenItIsAwaited) {
  for (int i = 0; i < 128; ++i) data_[i] = i + 1;
  for (const bool wait : {true, false}) {
    ASSERT_TRUE(Launch("Copies", &CopiesAndWaits, {dim3(1), dim3(32), 512}, stream_, data_, data_ + 256, wait).ok());
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(data_[256 + 0], wait ? 1 : -1);
    EXPECT_EQ(data_[256 + 4], wait ? 0 : -1) << "not valid: zeros";
    EXPECT_EQ(data_[256 + 11], wait ? 12 : -1);
  }
}

__global__ void MultipliesMatrices(const uint16_t* a, const uint16_t* b, float* d) {
  TANDEM_SHARED(uint16_t, tile, 16 * 24);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) tile[i / 16 * 24 + i % 16] = a[i];
  __syncwarp();
  uint32_t left[4];
  worker::cuda::LoadMatrices(left, tile + (lane % 16) * 24 + lane / 16 * 8);
  __syncwarp();
  for (int i = lane; i < 128; i += 32) tile[i / 8 * 24 + i % 8] = b[i];  // [16][8]
  __syncwarp();
  uint32_t right[4];
  worker::cuda::LoadMatricesTransposed(right, tile + (lane % 16) * 24);
  const uint32_t pair[2] = {right[0], right[1]};
  float sum[4] = {};
  worker::cuda::MultiplyAdd(sum, left, pair, __nv_bfloat16{});
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

TEST_F(Emulation, MatricesAreLoadedAndMultiplied) {
  auto* const a = reinterpret_cast<uint16_t*>(data_);
  auto* const b = a + 256;
  auto* const d = reinterpret_cast<float*>(data_ + 256);
  for (int i = 0; i < 256; ++i) a[i] = model::BFloat16FromFloat(static_cast<float>(i % 13 - 6));
  for (int i = 0; i < 128; ++i) b[i] = model::BFloat16FromFloat(static_cast<float>(i % 7 - 3));
  ASSERT_TRUE(Launch("Multiplies", &MultipliesMatrices, {dim3(1), dim3(32)}, stream_, a, b, d).ok());
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float wanted = 0;
      for (int k = 0; k < 16; ++k)
        wanted += static_cast<float>((row * 16 + k) % 13 - 6) * static_cast<float>((k * 8 + column) % 7 - 3);
      EXPECT_EQ(d[row * 8 + column], wanted);
    }
  }
}

TEST_F(Emulation, AStreamWorksInItsOwnTime) {
  std::vector<int> host(4, 5);
  int* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 16), cudaSuccess);
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(data_, host.data(), 16, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned, data_, 16, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(pinned[3], 5);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  cudaEventDestroy(event);
  cudaFreeHost(pinned);
}

TEST_F(Emulation, AGraphRepeatsWhatWasRecorded) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  ASSERT_TRUE(Launch("Sum", &SumOfThreads, {dim3(1), dim3(64)}, stream_, data_).ok()) << "loads it";
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  data_[0] = 0;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  ASSERT_TRUE(Launch("Sum", &SumOfThreads, {dim3(1), dim3(64)}, stream_, data_).ok());
  ASSERT_EQ(cudaMemcpyAsync(data_ + 100, data_, 4, cudaMemcpyDeviceToDevice, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(data_[0], 0) << "nothing runs while it is recorded";
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph), cudaSuccess);
  for (int i = 0; i < 2; ++i) {
    data_[100] = 0;
    ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(data_[100], 63 * 64 / 2);
  }
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

TEST_F(Emulation, ACaptureBearsNeitherAllocationNorWaiting) {
  for (const bool allocate : {true, false}) {
    cudaGraph_t graph = nullptr;
    int* more = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(allocate ? cudaMalloc(&more, 16) : cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
  }
}

TEST_F(Emulation, MemoryIsCountedAndEnds) {
  Machine machine;
  machine.memory_bytes = 10000;
  machine.taken_bytes = 1000;
  SetMachine(machine);
  size_t free_bytes = 0, total = 0;
  char* one = nullptr;
  char* two = nullptr;
  ASSERT_EQ(cudaMalloc(&one, 5000), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
  EXPECT_EQ(free_bytes, 4000u);
  EXPECT_EQ(total, 10000u);
  const absl::Status full = worker::cuda::ToStatus(cudaMalloc(&two, 5000), "cudaMalloc of 5000 bytes");
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(worker::cuda::IsSticky(full));
  ASSERT_EQ(cudaFree(one), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&two, 5000), cudaSuccess) << "the device is usable as before";
  ASSERT_EQ(cudaFree(two), cudaSuccess);
}

// The list of driver_types.h: "the process must be terminated and relaunched". Some have no name in older toolkits.
TEST_F(Emulation, ErrorsAfterWhichAProcessHasToEndAreKnown) {
  for (const int error : {226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911}) {
    EXPECT_TRUE(worker::cuda::IsSticky(static_cast<cudaError_t>(error))) << error;
  }
  for (const cudaError_t error : {cudaSuccess, cudaErrorNotReady, cudaErrorMemoryAllocation, cudaErrorInvalidValue,
                                  cudaErrorStreamCaptureInvalidated, cudaErrorPeerAccessUnsupported}) {
    EXPECT_FALSE(worker::cuda::IsSticky(error)) << error;
  }
}

TEST_F(Emulation, ACallFailsWhenItIsToldTo) {
  FailCall("cudaMemcpyAsync", 2, cudaErrorIllegalAddress);
  int host = 0;
  EXPECT_EQ(cudaMemcpyAsync(&host, data_, 4, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);  // Before the device is lost: nobody waits for it then.
  const absl::Status failed =
      worker::cuda::ToStatus(cudaMemcpyAsync(&host, data_, 4, cudaMemcpyDeviceToHost, stream_), "copying the result");
  EXPECT_TRUE(worker::cuda::IsSticky(failed));
  EXPECT_THAT(failed.message(), HasSubstr("copying the result: an illegal memory access"));
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress) << "it stays";
}

TEST_F(Emulation, ALaunchThatNoDeviceTakesIsRefused) {
  EXPECT_FALSE(Launch("Planted", &SumOfThreads, {dim3(1), dim3(2048)}, stream_, data_).ok());
  EXPECT_FALSE(Launch("Planted", &SumOfThreads, {dim3(1), dim3(32), 200 << 10}, stream_, data_).ok());
  EXPECT_TRUE(Launch("Planted", &SumOfThreads, {dim3(0), dim3(32)}, stream_, data_).ok()) << "nothing to do";
  cudaGetLastError();
}

TEST_F(Emulation, StaticArraysCountInWhatIsNotAskedFor) {
  constexpr size_t kBytes = 48 << 10;
  void* arguments[] = {&data_};
  ASSERT_EQ(cudaLaunchKernel(&SumOfThreads, dim3(1), dim3(32), arguments, kBytes, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_THAT(TakeFindings(),
              ElementsAre(HasSubstr("128 bytes of static shared memory and 49152 of dynamic are more")));
  ASSERT_TRUE(Launch("Planted", &SumOfThreads, {dim3(1), dim3(32), kBytes}, stream_, data_).ok()) << "which asks";
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
}

}  // namespace
}  // namespace tandem::emulation
