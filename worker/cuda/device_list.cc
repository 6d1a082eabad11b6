#include "worker/cuda/device_list.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "worker/cuda/check.h"

namespace tandem::worker {
namespace {

// bfloat16 in tensor cores begins with this generation, and so do the kernels.
constexpr int kOldestMajor = 8;

// Why the runtime does not count devices, in words that say what to do.
absl::Status NoDriver(cudaError_t error) {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const std::string built = CudaVersionName(runtime);
  if (driver == 0) {
    return absl::FailedPreconditionError(absl::StrCat("no NVIDIA driver answers on this machine (",
                                                      cudaGetErrorName(error), "); this build needs one for ", built));
  }
  return absl::FailedPreconditionError(absl::StrCat("the driver knows ", CudaVersionName(driver), ", this build needs ",
                                                    built, ": ", cudaGetErrorString(error), " (",
                                                    cudaGetErrorName(error), ")"));
}

}  // namespace

absl::StatusOr<std::string> DeviceArchitecture(int ordinal) {
  int major = 0;
  int minor = 0;
  TANDEM_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal));
  TANDEM_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal));
  if (major < kOldestMajor) {
    return absl::InvalidArgumentError(absl::StrCat("the device has compute capability ", major, ".", minor,
                                                   ", the kernels need ", kOldestMajor, ".0 or later"));
  }
  return absl::StrCat("sm_", major, minor);
}

std::string CudaVersionName(int version) { return absl::StrCat("CUDA ", version / 1000, ".", version % 1000 / 10); }

std::string CanonicalBusId(absl::string_view bus_id) {
  const size_t colon = bus_id.find(':');
  if (colon == absl::string_view::npos || colon > 8) return absl::AsciiStrToLower(bus_id);
  return absl::StrCat(std::string(8 - colon, '0'), absl::AsciiStrToLower(bus_id));
}

std::string UuidName(const char (&bytes)[16]) {
  std::string name = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) name += '-';
    absl::StrAppendFormat(&name, "%02x", static_cast<unsigned char>(bytes[i]));
  }
  return name;
}

absl::StatusOr<CudaDeviceFacts> ReadCudaDevice(int ordinal) {
  cudaDeviceProp properties{};
  if (cudaError_t error = cudaGetDeviceProperties(&properties, ordinal); error != cudaSuccess) {
    return cuda::ToStatus(error, absl::StrCat("the properties of device ", ordinal));
  }
  char bus_id[32] = "";
  if (cudaError_t error = cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), ordinal); error != cudaSuccess) {
    return cuda::ToStatus(error, absl::StrCat("the PCI address of device ", ordinal));
  }
  CudaDeviceFacts facts{.ordinal = ordinal,
                        .name = properties.name,
                        .uuid = UuidName(properties.uuid.bytes),
                        .bus_id = CanonicalBusId(bus_id),
                        .memory_total = static_cast<int64_t>(properties.totalGlobalMem),
                        .compute_major = properties.major,
                        .compute_minor = properties.minor,
                        .multiprocessors = properties.multiProcessorCount};
  if (cudaDeviceGetAttribute(&facts.clock_khz, cudaDevAttrClockRate, ordinal) != cudaSuccess) facts.clock_khz = 0;
  return facts;
}

absl::StatusOr<std::vector<CudaDeviceFacts>> ListCudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice) return std::vector<CudaDeviceFacts>{};
  if (error != cudaSuccess) return NoDriver(error);
  std::vector<CudaDeviceFacts> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    absl::StatusOr<CudaDeviceFacts> facts = ReadCudaDevice(ordinal);
    if (!facts.ok()) return facts.status();
    devices.push_back(*std::move(facts));
  }
  return devices;
}

}  // namespace tandem::worker
