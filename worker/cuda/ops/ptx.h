// Instructions that the language has no words for, as functions. Nowhere else stands inline PTX, so that the kernels
// can also be built for the host, where tests/emulation has the same functions.
//
// All of them are there from compute capability 8.0 on. What a whole warp does together is volatile: an asm statement
// that is not may be moved (the CUDA guide's words on inline PTX), and into a branch that not all lanes take it must
// not be.
#ifndef TANDEM_WORKER_CUDA_OPS_PTX_H_
#define TANDEM_WORKER_CUDA_OPS_PTX_H_

#if defined(TANDEM_CUDA_EMULATION)
#include <emulated_ptx.h>
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "worker/cuda/ops/shared.h"

namespace tandem::worker::cuda {

// Sixteen bytes that nobody reads again soon: they are not kept in the first-level cache. REQUIRES: 16-byte aligned,
// and constant while the kernel runs.
__device__ __forceinline__ uint4 LoadOnce16(const void* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(__cvta_generic_to_global(address)));
  return value;
}

// sum[16][8] += a[16][16] * b[16][8] by the whole warp, sums in float32. Lane 4 g + q holds, two elements to a
// register,
//   of a: (row g, columns 2q 2q+1), (g + 8, same), (g, 2q + 8 2q + 9), (g + 8, same);
//   of b: (rows 2q 2q+1, column g), (rows 2q + 8 2q + 9, column g);
//   of sum: (g, 2q), (g, 2q + 1), (g + 8, 2q), (g + 8, 2q + 1).
__device__ __forceinline__ void MultiplyAdd(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                            __nv_bfloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void MultiplyAdd(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four matrices of 8x8 elements from shared memory by the whole warp: lane l gives the address of row l % 8 of matrix
// l / 8 (16 bytes, aligned), and lane 4 g + q receives of each the elements (row g, columns 2q 2q+1).
template <class T>
__device__ __forceinline__ void LoadMatrices(uint32_t (&result)[4], T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// The same of the transposed matrices: (rows 2q 2q+1, column g) as stored.
template <class T>
__device__ __forceinline__ void LoadMatricesTransposed(uint32_t (&result)[4], T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// Begins to copy sixteen bytes from global to shared memory, both aligned; zeros arrive where not `valid`, and `from`
// is not read then. Copies are committed in groups; AwaitCopies<n> returns when all of this thread's groups but the
// last n have arrived. Other threads see them after a barrier that follows.
template <class T>
__device__ __forceinline__ void CopyAsync16(T* to, const void* from, bool valid) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
      : "memory");
}

__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kLeft>
__device__ __forceinline__ void AwaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

}  // namespace tandem::worker::cuda

#endif

#endif  // TANDEM_WORKER_CUDA_OPS_PTX_H_
