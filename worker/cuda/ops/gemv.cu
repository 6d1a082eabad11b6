// A matrix of weights is read once, from beginning to end of every row; all else is small. So the kernel is arranged
// around its loads:
//
//  - The weights are the left side of the tensor core's product, sixteen of their rows at a time; the input rows, at
//    most eight, are its right side. One instruction multiplies what 512 bytes of loads have brought, and the
//    arithmetic never stands in the way. Rows of the input do not meet in any sum.
//  - The product's inner index may be permuted if both sides are permuted alike. A lane therefore takes eight
//    neighbouring elements of a weight row in one load of 16 bytes, and gives four of them to each of two products:
//    no shuffles, no shared memory. The four lanes of a row read 64 bytes side by side, and kUnroll such steps follow
//    each other, so that a row is read in runs of 64 * kUnroll bytes.
//  - Loads of kUnroll steps are issued before the first product that needs them: 2 * kUnroll loads of 16 bytes in
//    flight for each lane.
//  - Eight warps share sixteen rows, each with its part of the inner index, and their sums meet in shared memory in the
//    order of the warps. A matrix of 4096 columns gives 2048 warps so, enough for every device to have all its memory
//    channels busy (about 40 KiB in flight on each multiprocessor are needed; 16 warps with 4 KiB each are 64).
#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/gemv.h"
#include "worker/cuda/ops/ptx.h"
#include "worker/cuda/ops/shared.h"

namespace tandem::worker::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kTile = 16;  // weight rows of a block
constexpr int kStep = 32;  // inner elements of one load by the four lanes of a row
constexpr int kUnroll = 4;
constexpr int kSumStride = kTile + 4;  // of a row's sums in shared memory: 2q rows and g columns are in different banks

template <class T>
struct Inputs {
  const T* rows;
  int64_t stride;
  int32_t count;
};

// Zeros where there is nothing to read. Written with an if: a conditional expression would choose between two
// addresses, and one of them would be on the stack.
__device__ __forceinline__ uint4 LoadWhere(bool there, const void* address) {
  uint4 value = make_uint4(0, 0, 0, 0);
  if (there) value = *static_cast<const uint4*>(address);
  return value;
}
__device__ __forceinline__ uint4 LoadOnceWhere(bool there, const void* address) {
  uint4 value = make_uint4(0, 0, 0, 0);
  if (there) value = LoadOnce16(address);
  return value;
}

// The products of one step: 16 bytes of two weight rows and of one input row per lane.
template <class T>
__device__ __forceinline__ void MultiplyStep(float (&sum)[4], const uint4& low, const uint4& high, const uint4& input) {
  const uint32_t first_a[4] = {low.x, high.x, low.y, high.y};
  const uint32_t first_b[2] = {input.x, input.y};
  MultiplyAdd(sum, first_a, first_b, T{});
  const uint32_t second_a[4] = {low.z, high.z, low.w, high.w};
  const uint32_t second_b[2] = {input.z, input.w};
  MultiplyAdd(sum, second_a, second_b, T{});
}

template <class T, class Out>
__global__ void __launch_bounds__(32 * kWarps)
    GemvKernel(Inputs<T> input, const T* weight, const float* bias, Out* output, int64_t output_stride, bool accumulate,
               int64_t columns, int64_t inner) {
  TANDEM_SHARED(float, sums, kWarps* kGemvMaxRows* kSumStride);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4;
  const int q = lane % 4;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kTile;

  // Columns beyond the last are computed as the last one, and not written.
  const int64_t low_column = first_column + g < columns ? first_column + g : columns - 1;
  const int64_t high_column = first_column + g + 8 < columns ? first_column + g + 8 : columns - 1;
  const T* const low = weight + low_column * inner + q * 8;
  const T* const high = weight + high_column * inner + q * 8;
  const bool has_input = g < input.count;
  const T* const x = input.rows + (has_input ? g : 0) * input.stride + q * 8;

  // Warps take turns by chunks of kUnroll steps; which one takes what depends on `inner` alone.
  float sum[4] = {};
  constexpr int64_t kChunk = kStep * kUnroll;
  int64_t k = warp * kChunk;
  for (; k + kChunk <= inner; k += kWarps * kChunk) {
    uint4 lows[kUnroll];
    uint4 highs[kUnroll];
    uint4 inputs[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      lows[i] = LoadOnce16(low + k + i * kStep);
      highs[i] = LoadOnce16(high + k + i * kStep);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      inputs[i] = LoadWhere(has_input, x + k + i * kStep);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) MultiplyStep<T>(sum, lows[i], highs[i], inputs[i]);
  }
  // The last chunk may be short. `inner` is a multiple of 8, so a lane's 16 bytes are there or not.
  for (int64_t step = k; step < inner && step < k + kChunk; step += kStep) {
    const bool there = step + q * 8 < inner;
    MultiplyStep<T>(sum, LoadOnceWhere(there, low + step), LoadOnceWhere(there, high + step),
                    LoadWhere(there && has_input, x + step));
  }

  // Lane (g, q) has the columns g and g + 8 for the input rows 2q and 2q + 1.
  const Shared<float> mine = sums + warp * kGemvMaxRows * kSumStride;
  mine[2 * q * kSumStride + g] = sum[0];
  mine[(2 * q + 1) * kSumStride + g] = sum[1];
  mine[2 * q * kSumStride + g + 8] = sum[2];
  mine[(2 * q + 1) * kSumStride + g + 8] = sum[3];
  __syncthreads();
  // Half of the warps put the sums together, each those of two rows that are half of the banks apart.
  const int column = lane % kTile;
  const int row = warp + lane / kTile * (kGemvMaxRows / 2);
  if (warp >= kGemvMaxRows / 2 || row >= input.count || first_column + column >= columns) return;
  float total = bias != nullptr ? bias[first_column + column] : 0.0f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) total += sums[(i * kGemvMaxRows + row) * kSumStride + column];
  Out* const to = output + row * output_stride + first_column + column;
  if (accumulate) total += ToFloat(*to);
  *to = FromFloat<Out>(total);
}

template <class T, class Out>
absl::Status Start(const GemvArgs& args, cudaStream_t stream) {
  return Launch("Gemv", &GemvKernel<T, Out>, {dim3(BlocksFor(args.columns, kTile)), dim3(32 * kWarps)}, stream,
                Inputs<T>{static_cast<const T*>(args.input), args.input_stride, args.rows},
                static_cast<const T*>(args.weight), args.bias, static_cast<Out*>(args.output), args.output_stride,
                args.accumulate, args.columns, args.inner);
}

}  // namespace

bool GemvTakes(const GemvArgs& args) {
  return args.rows >= 1 && args.rows <= kGemvMaxRows && args.inner > 0 && args.inner % 8 == 0 &&
         args.input_stride % 8 == 0 && AlignedTo(args.input, 16) && AlignedTo(args.weight, 16) &&
         args.type != model::DType::kFloat32 &&
         (args.output_type == args.type || args.output_type == model::DType::kFloat32) &&
         (!args.accumulate || args.output_type == model::DType::kFloat32);
}

absl::Status Gemv(const GemvArgs& args, cudaStream_t stream) {
  if (!GemvTakes(args)) {
    return absl::InvalidArgumentError(absl::StrCat("Gemv does not take ", args.rows, " rows of ", args.inner, " to ",
                                                   args.columns, " columns in ", model::NameOf(args.type)));
  }
  return ForSixteenBits("Gemv", args.type, [&](auto type) {
    using T = decltype(type);
    return args.output_type == model::DType::kFloat32 ? Start<T, float>(args, stream) : Start<T, T>(args, stream);
  });
}

}  // namespace tandem::worker::cuda
