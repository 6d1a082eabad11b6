#include "worker/cuda/device_memory.h"

#include <cuda_runtime.h>
#include <glog/logging.h>

#include "absl/strings/str_cat.h"
#include "base/model/model_memory.h"
#include "worker/cuda/check.h"

namespace tandem::worker::cuda {
namespace {

// An allocation that failed is no fault of the device: the next call must not find its error.
void ForgetLastError() { cudaGetLastError(); }

}  // namespace

DeviceMemory::~DeviceMemory() {
  // A device that failed for good refuses this too; then the process ends, and the driver takes all of it back.
  if (data_ != nullptr) cudaFree(data_);
}

absl::StatusOr<DeviceMemory> DeviceMemory::Allocate(int64_t bytes, absl::string_view what) {
  DeviceMemory memory;
  if (bytes <= 0) return memory;
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    ForgetLastError();
    const absl::StatusOr<DeviceMemoryInfo> info = ReadDeviceMemory();
    return absl::ResourceExhaustedError(absl::StrCat(what, " needs ", bytes, " bytes of device memory, ",
                                                     info.ok() ? absl::StrCat(info->free) : "an unknown number",
                                                     " are free"));
  }
  if (error != cudaSuccess) return ToStatus(error, absl::StrCat("taking ", bytes, " bytes for ", what));
  memory.data_ = static_cast<uint8_t*>(data);
  memory.bytes_ = bytes;
  return memory;
}

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

absl::StatusOr<PinnedMemory> PinnedMemory::Allocate(int64_t bytes, absl::string_view what) {
  PinnedMemory memory;
  if (bytes <= 0) return memory;
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault);
  if (error == cudaErrorMemoryAllocation) {
    ForgetLastError();
    return absl::ResourceExhaustedError(
        absl::StrCat(what, " needs ", bytes, " bytes of page-locked host memory, which the system does not give"));
  }
  if (error != cudaSuccess) {
    return ToStatus(error, absl::StrCat("taking ", bytes, " page-locked bytes for ", what));
  }
  memory.data_ = static_cast<uint8_t*>(data);
  memory.bytes_ = bytes;
  return memory;
}

uint8_t* MemoryCursor::TakeBytes(int64_t bytes) {
  if (bytes == 0) return nullptr;
  uint8_t* const at = base_ == nullptr ? nullptr : base_ + taken_;
  taken_ += model::RoundUp(bytes, kDeviceAlignment);
  CHECK_LE(taken_, bytes_) << "the arena was sized for less";
  return at;
}

absl::StatusOr<DeviceMemoryInfo> ReadDeviceMemory() {
  size_t free = 0;
  size_t total = 0;
  if (const cudaError_t error = cudaMemGetInfo(&free, &total); error != cudaSuccess) {
    return ToStatus(error, "reading the device's free memory");
  }
  return DeviceMemoryInfo{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

}  // namespace tandem::worker::cuda
