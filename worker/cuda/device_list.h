// The devices that the CUDA runtime shows to this process.
#ifndef TANDEM_WORKER_CUDA_DEVICE_LIST_H_
#define TANDEM_WORKER_CUDA_DEVICE_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/cuda/backend.h"

namespace tandem::worker {

// As CudaPlugin::list_devices. Makes no context.
absl::StatusOr<std::vector<CudaDeviceFacts>> ListCudaDevices();

absl::StatusOr<CudaDeviceFacts> ReadCudaDevice(int ordinal);

// "sm_86". INVALID_ARGUMENT for a device that is older than the kernels.
absl::StatusOr<std::string> DeviceArchitecture(int ordinal);

// "CUDA 13.0" out of 13000.
std::string CudaVersionName(int version);
// "00000000:3b:00.0" out of "0000:3B:00.0": every library writes the domain with its own number of digits.
std::string CanonicalBusId(absl::string_view bus_id);
// "GPU-" and 16 bytes in hex, as nvidia-smi writes them.
std::string UuidName(const char (&bytes)[16]);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_CUDA_DEVICE_LIST_H_
