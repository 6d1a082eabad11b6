// The counting itself: kernels of which every address is known, the good ones and the planted bad ones.

#include "tests/emulation/access_counts.h"

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/emulation/control.h"
#include "tests/emulation/findings.h"
#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/ptx.h"
#include "worker/cuda/ops/shared.h"

namespace tandem::emulation {
namespace {

using testing::HasSubstr;
using worker::cuda::Launch;
using worker::cuda::Shared;
using worker::cuda::SharedCast;

class AccessCountsTest : public testing::Test {
 protected:
  static constexpr size_t kBytes = size_t{64} << 10;

  void SetUp() override {
    SetMachine({});
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&data_, kBytes), cudaSuccess);
    ASSERT_EQ(cudaMemset(data_, 0, kBytes), cudaSuccess);
    TakeCounts();
    CountAccesses(true);
  }
  void TearDown() override {
    CountAccesses(false);
    cudaFree(data_);
    cudaStreamDestroy(stream_);
  }

  // What one block of `threads` did.
  KernelCounts CountsOf(void (*kernel)(float*, int), unsigned int threads, int argument) {
    EXPECT_TRUE(Launch("Planted", kernel, {dim3(1), dim3(threads)}, stream_, data_, argument).ok());
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const std::vector<KernelCounts> all = TakeCounts();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? KernelCounts() : all[0];
  }

  cudaStream_t stream_ = nullptr;
  float* data_ = nullptr;
};

// A column of a matrix with rows of `stride` words.
__global__ void ReadsAColumn(float* out, int stride) {
  TANDEM_SHARED(float, matrix, 32 * 40);
  for (int i = static_cast<int>(threadIdx.x); i < 32 * 40; i += 32) matrix[i] = 1;
  __syncthreads();
  out[threadIdx.x] = matrix[static_cast<int>(threadIdx.x) * stride];
}

TEST_F(AccessCountsTest, AColumnOfAMatrixOfThirtyTwoWordsIsInOneBank) {
  const KernelCounts bad = CountsOf(&ReadsAColumn, 32, 32);
  EXPECT_EQ(bad.of(AccessKind::kSharedRead).requests, 1);
  EXPECT_EQ(bad.of(AccessKind::kSharedRead).taken, 32);
  EXPECT_EQ(bad.of(AccessKind::kSharedRead).least, 1);
  EXPECT_EQ(bad.of(AccessKind::kSharedWrite).requests, 40);
  EXPECT_EQ(bad.of(AccessKind::kSharedWrite).excess(), 0);
  EXPECT_EQ(bad.barriers, 1);
  EXPECT_THAT(LossesOf(bad), HasSubstr("Planted: shared reads of"));
  EXPECT_THAT(LossesOf(bad), HasSubstr("32 passes in 1 requests, 1 would do"));
  EXPECT_EQ(CountsOf(&ReadsAColumn, 32, 33).of(AccessKind::kSharedRead).excess(), 0) << "a word of padding cures it";
  EXPECT_EQ(CountsOf(&ReadsAColumn, 32, 34).of(AccessKind::kSharedRead).taken, 2);
  EXPECT_EQ(CountsOf(&ReadsAColumn, 32, 0).of(AccessKind::kSharedRead).taken, 1) << "one word goes to all who ask";
}

// Rows of matrices as tensor cores load them, `stride` elements apart.
__global__ void LoadsMatrices(float* out, int stride) {
  TANDEM_SHARED(uint16_t, tile, 16 * 72);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * 72; i += 32) tile[i] = 0;
  __syncwarp();
  uint32_t part[4];
  worker::cuda::LoadMatrices(part, tile + (lane % 16 * stride + lane / 16 * 8));
  out[lane] = static_cast<float>(part[0]);
}

TEST_F(AccessCountsTest, EightRowsOfMatricesNeedDifferentBanks) {
  const KernelCounts bad = CountsOf(&LoadsMatrices, 32, 64);
  EXPECT_EQ(bad.of(AccessKind::kSharedRead).requests, 1);
  EXPECT_EQ(bad.of(AccessKind::kSharedRead).taken, 32);
  EXPECT_EQ(bad.of(AccessKind::kSharedRead).least, 4);
  EXPECT_EQ(bad.barriers, 0) << "a warp's own are not the block's";
  EXPECT_EQ(CountsOf(&LoadsMatrices, 32, 72).of(AccessKind::kSharedRead).taken, 4);
}

// Vectors of four words, side by side or a row of banks apart.
__global__ void WritesVectors(float*, int stride) {
  TANDEM_SHARED(float, places, 32 * 32);
  SharedCast<float4>(places)[static_cast<int>(threadIdx.x) * stride] = make_float4(0, 0, 0, 0);
}

TEST_F(AccessCountsTest, VectorsGoInQuarterWarps) {
  EXPECT_EQ(CountsOf(&WritesVectors, 32, 1).of(AccessKind::kSharedWrite).taken, 4);
  EXPECT_EQ(CountsOf(&WritesVectors, 32, 2).of(AccessKind::kSharedWrite).taken, 8);
  EXPECT_EQ(CountsOf(&WritesVectors, 32, 8).of(AccessKind::kSharedWrite).taken, 32);
}

// Begins on a sector where `shift` is a multiple of 8.
__global__ void CopiesToShared(float* from, int shift) {
  TANDEM_SHARED(float, places, 4 * 32);
  const int place = 4 * static_cast<int>(threadIdx.x);
  worker::cuda::CopyAsync16(places + place, from + shift + place, true);
  worker::cuda::CommitCopies();
  worker::cuda::AwaitCopies<0>();
}

TEST_F(AccessCountsTest, AnAsynchronousCopyReadsAndWrites) {
  const KernelCounts good = CountsOf(&CopiesToShared, 32, 0);
  EXPECT_EQ(good.of(AccessKind::kSharedWrite).requests, 1) << "not once more when it arrives";
  EXPECT_EQ(good.of(AccessKind::kSharedWrite).taken, 4);
  EXPECT_EQ(good.of(AccessKind::kGlobalRead).bytes, 512);
  EXPECT_EQ(good.of(AccessKind::kGlobalRead).taken, 16);
  EXPECT_EQ(CountsOf(&CopiesToShared, 32, 4).of(AccessKind::kGlobalRead).taken, 17);
}

__global__ void ReadsEveryNth(float* data, int stride) {
  data[8192 + static_cast<int>(threadIdx.x)] = data[static_cast<int>(threadIdx.x) * stride];
}

TEST_F(AccessCountsTest, PlainLoadsAndStoresAreSeen) {
  const KernelCounts good = CountsOf(&ReadsEveryNth, 64, 1);
  EXPECT_EQ(good.of(AccessKind::kGlobalRead).requests, 2) << "one of each warp";
  EXPECT_EQ(good.of(AccessKind::kGlobalRead).taken, 8);
  EXPECT_EQ(good.of(AccessKind::kGlobalRead).excess(), 0);
  EXPECT_EQ(good.of(AccessKind::kGlobalWrite).bytes, 256);
  EXPECT_EQ(good.of(AccessKind::kGlobalWrite).taken, 8);
  const KernelCounts bad = CountsOf(&ReadsEveryNth, 64, 8);
  EXPECT_EQ(bad.of(AccessKind::kGlobalRead).taken, 64);
  EXPECT_EQ(bad.of(AccessKind::kGlobalRead).least, 8);
  EXPECT_EQ(bad.distinct_sectors[0], 64);
  EXPECT_THAT(LossesOf(bad), HasSubstr("64 sectors in 2 requests, 8 would do"));
  EXPECT_EQ(CountsOf(&ReadsEveryNth, 64, 0).of(AccessKind::kGlobalRead).taken, 2);
}

__global__ void MovesVectors(float* data, int) {
  const float4 x = worker::cuda::LoadFour(data + 4 * threadIdx.x);
  worker::cuda::StoreFour(data + 4096 + 4 * threadIdx.x, x);
  const float4 y = worker::cuda::LoadFour(reinterpret_cast<const __nv_bfloat16*>(data) + 4 * threadIdx.x);
  worker::cuda::StoreFour(reinterpret_cast<__nv_bfloat16*>(data + 8192) + 4 * threadIdx.x, y);
}

TEST_F(AccessCountsTest, VectorsAreOneRequest) {
  const KernelCounts counts = CountsOf(&MovesVectors, 32, 0);
  for (const AccessKind kind : {AccessKind::kGlobalRead, AccessKind::kGlobalWrite}) {
    EXPECT_EQ(counts.of(kind).requests, 2);
    EXPECT_EQ(counts.of(kind).bytes, 512 + 256);
    EXPECT_EQ(counts.of(kind).taken, 16 + 8);
  }
}

__global__ void HalfOfTheLanes(float* data, int count) {
  if (static_cast<int>(threadIdx.x) >= count) return;
  data[threadIdx.x] = 1;
  data[64 + threadIdx.x] = 1;
}

TEST_F(AccessCountsTest, LanesThatEndedAskForNothing) {
  const KernelCounts counts = CountsOf(&HalfOfTheLanes, 32, 16);
  EXPECT_EQ(counts.of(AccessKind::kGlobalWrite).requests, 2);
  EXPECT_EQ(counts.of(AccessKind::kGlobalWrite).taken, 4);
}

TEST_F(AccessCountsTest, NothingIsCountedUnlessSomebodyAsks) {
  CountAccesses(false);
  ASSERT_TRUE(Launch("Planted", &ReadsEveryNth, {dim3(1), dim3(32)}, stream_, data_, 1).ok());
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_TRUE(TakeCounts().empty());
}

}  // namespace
}  // namespace tandem::emulation
