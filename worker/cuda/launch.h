// The one way to start a kernel.
//
// The triple brackets are no C++, and the kernels are also compiled for the host (tests/emulation); a plain call with
// the arguments' types checked reads as well, and says which kernel it was when it fails.
#ifndef TANDEM_WORKER_CUDA_LAUNCH_H_
#define TANDEM_WORKER_CUDA_LAUNCH_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/cuda/check.h"

namespace tandem::worker::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes = 0;
};

// A kernel has 48 KiB of shared memory without asking for them, its static arrays included. Those are not known here;
// so beyond this much beside them it asks.
inline constexpr size_t kUnaskedSharedBytes = 32 << 10;

// Starts `kernel` on the stream. An empty grid is no error and starts nothing. OK means accepted: what goes wrong while
// it runs comes out of a later call. A failed launch has changed nothing.
template <class... Params, class... Args>
absl::Status Launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape, cudaStream_t stream,
                    Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "the kernel takes another number of arguments");
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return absl::OkStatus();
  std::tuple<std::remove_cv_t<Params>...> values(std::forward<Args>(args)...);
#if defined(TANDEM_CUDA_EMULATION)
  tandem::emulation::NameNextLaunch(name);
#endif
  if (shape.dynamic_shared_bytes > kUnaskedSharedBytes) {
    const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(shape.dynamic_shared_bytes));
    if (allowed != cudaSuccess) {
      return ToStatus(allowed,
                      absl::StrCat("asking for ", shape.dynamic_shared_bytes, " bytes of shared memory for ", name));
    }
  }
  const cudaError_t launched = std::apply(
      [&](auto&... value) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
        return cudaLaunchKernel(kernel, shape.grid, shape.block, pointers, shape.dynamic_shared_bytes, stream);
      },
      values);
  if (launched == cudaSuccess) return absl::OkStatus();
  return ToStatus(launched, absl::StrCat("launching ", name, " with ", shape.grid.x, "x", shape.grid.y, "x",
                                         shape.grid.z, " blocks of ", shape.block.x * shape.block.y * shape.block.z));
}

// Blocks needed so that `each` per block cover `count`.
inline unsigned int BlocksFor(int64_t count, int64_t each) {
  return count <= 0 ? 0u : static_cast<unsigned int>((count + each - 1) / each);
}

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_LAUNCH_H_
