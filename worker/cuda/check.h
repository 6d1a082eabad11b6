// CUDA's error codes as absl::Status, with the call that failed in words.
//
// Some errors stay: an illegal access or a failed launch spoils the context, and every later call of the process
// answers with it. Such a status carries a mark that IsSticky() finds however often the status was passed on; its
// process can only end (non-zero, with the message) and be started anew. All others leave the context usable.
#ifndef TANDEM_WORKER_CUDA_CHECK_H_
#define TANDEM_WORKER_CUDA_CHECK_H_

#include <cuda_runtime.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tandem::worker::cuda {

// Whether the context is lost with this error.
bool IsSticky(cudaError_t error);
bool IsSticky(const absl::Status& status);

// OK for cudaSuccess. RESOURCE_EXHAUSTED where memory is short, UNAVAILABLE for a device or driver that is not there,
// else INTERNAL. `call` is what was tried, as a reader should see it: "cudaMalloc of 512 MiB for weights".
absl::Status ToStatus(cudaError_t error, absl::string_view call);

}  // namespace tandem::worker::cuda

// Returns from the function with a status that is no OK.
#define TANDEM_RETURN_IF_ERROR(expression)                               \
  do {                                                                   \
    if (absl::Status status = (expression); !status.ok()) return status; \
  } while (false)

// Returns from the function with the status of a CUDA call that failed. For calls whose own text says what was tried.
#define TANDEM_CUDA_RETURN_IF_ERROR(call)                                                 \
  do {                                                                                    \
    if (const cudaError_t tandem_cuda_error = (call); tandem_cuda_error != cudaSuccess) { \
      return ::tandem::worker::cuda::ToStatus(tandem_cuda_error, #call);                  \
    }                                                                                     \
  } while (false)

#endif  // TANDEM_WORKER_CUDA_CHECK_H_
