// Finds and loads the CUDA plugin (worker/cuda/backend.h), once for the process; it is never unloaded.
#ifndef TANDEM_WORKER_CUDA_PLUGIN_H_
#define TANDEM_WORKER_CUDA_PLUGIN_H_

#include <string>

#include "absl/status/statusor.h"
#include "worker/cuda/backend.h"

namespace tandem::worker {

// The path in TANDEM_CUDA_PLUGIN, else ../lib/libtandem_cuda.so from this program.
std::string CudaPluginPath();

// NOT_FOUND where this build has no plugin. FAILED_PRECONDITION where it does not load (a library that it needs is
// missing), is none, or is of another build. A driver is not needed yet.
absl::StatusOr<const CudaPlugin*> LoadCudaPlugin(const std::string& path = CudaPluginPath());

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_CUDA_PLUGIN_H_
