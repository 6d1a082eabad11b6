// The device of this process behind the plugin's door: its memory, its reach, and what is loaded onto it.
#ifndef TANDEM_WORKER_CUDA_DEVICE_HANDLE_H_
#define TANDEM_WORKER_CUDA_DEVICE_HANDLE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/cuda/backend.h"

namespace tandem::worker {

// As CudaPlugin::open_device.
absl::StatusOr<std::unique_ptr<CudaDeviceHandle>> OpenCudaDevice(int ordinal,
                                                                 std::function<void(absl::string_view reason)> on_lost);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_CUDA_DEVICE_HANDLE_H_
