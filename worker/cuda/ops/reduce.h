// Sums over a warp and over a block. Their order is fixed by the number of threads, which the kernels derive from the
// width of a row and never from the number of rows.
//
// Included by .cu files only.
#ifndef TANDEM_WORKER_CUDA_OPS_REDUCE_H_
#define TANDEM_WORKER_CUDA_OPS_REDUCE_H_

#include <cuda_runtime.h>

#include "worker/cuda/ops/shared.h"

namespace tandem::worker::cuda {

inline constexpr unsigned int kWholeWarp = 0xffffffffu;

// Every lane gets the sum.
__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kWholeWarp, x, lanes);
  return x;
}

// Every thread gets the sum. `scratch` holds 32 floats; it is free again after the next barrier of the block.
// REQUIRES: all threads of the block are here, and their number is a multiple of 32.
__device__ __forceinline__ float BlockSum(float x, Shared<float> scratch) {
  x = WarpSum(x);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane == 0) scratch[static_cast<int>(threadIdx.x) / 32] = x;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / 32;
  return WarpSum(lane < warps ? static_cast<float>(scratch[lane]) : 0.0f);
}

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_REDUCE_H_
