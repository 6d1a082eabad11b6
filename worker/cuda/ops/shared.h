// Shared memory in kernels.
//
//   TANDEM_SHARED(float, sums, 32);           an array of the block
//   TANDEM_DYNAMIC_SHARED(uint8_t, tiles);    the bytes that the launch asked for, 128-byte aligned
//   Shared<const T> row = SharedCast<const T>(tiles) + 4;
//
// On a device Shared<T> is T*. Where kernels are built for the host it is a pointer that looks out for races and
// bounds; therefore a kernel reads a whole element (`const uint4 v = row[i];`) and never takes the address of one.
#ifndef TANDEM_WORKER_CUDA_OPS_SHARED_H_
#define TANDEM_WORKER_CUDA_OPS_SHARED_H_

#if defined(TANDEM_CUDA_EMULATION)
#include <emulated_shared.h>
#else

namespace tandem::worker::cuda {

template <class T>
using Shared = T*;

template <class U, class T>
__device__ __forceinline__ Shared<U> SharedCast(T* pointer) {
  return reinterpret_cast<U*>(pointer);
}

}  // namespace tandem::worker::cuda

#define TANDEM_SHARED(type, name, count) __shared__ __align__(16) type name[count]

#define TANDEM_DYNAMIC_SHARED(type, name)                                       \
  extern __shared__ __align__(128) unsigned char tandem_dynamic_shared_bytes[]; \
  type* const name = reinterpret_cast<type*>(tandem_dynamic_shared_bytes)

#endif

#endif  // TANDEM_WORKER_CUDA_OPS_SHARED_H_
