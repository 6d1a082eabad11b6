// Memory of the device, and memory of the host that the device can reach, as owners that give it back.
//
// Everything is taken while a model is loaded: an arena is one allocation, handed out front to back, so that a step
// allocates nothing and what is held is one number. Belongs to the engine thread.
//
// Giving memory back waits for the device (cudaFree synchronises). An owner whose device no longer answers must not be
// destroyed; the process ends instead (worker/cuda/cuda_executor.h).
#ifndef TANDEM_WORKER_CUDA_DEVICE_MEMORY_H_
#define TANDEM_WORKER_CUDA_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::worker::cuda {

class DeviceMemory {
 public:
  DeviceMemory() = default;  // Holds nothing.
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // Of the current device, not cleared. RESOURCE_EXHAUSTED says what for, how much, and how much is free.
  static absl::StatusOr<DeviceMemory> Allocate(int64_t bytes, absl::string_view what);

  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Page-locked: copies from and to it run beside the host.
class PinnedMemory {
 public:
  PinnedMemory() = default;  // Holds nothing.
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  static absl::StatusOr<PinnedMemory> Allocate(int64_t bytes, absl::string_view what);

  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Every buffer of an arena begins on this many bytes: what vector loads and cuBLASLt's best kernels ask for.
inline constexpr int64_t kDeviceAlignment = 256;

// One stretch of memory, of the device or pinned, handed out front to back.
class MemoryCursor {
 public:
  MemoryCursor() = default;
  MemoryCursor(uint8_t* base, int64_t bytes) : base_(base), bytes_(bytes) {}
  // Hands out nulls and counts: what is laid out and what is asked for can not differ.
  static MemoryCursor Counting() { return MemoryCursor(nullptr, INT64_MAX); }

  // The next `count` elements. REQUIRES: all that was taken fits.
  template <typename T>
  T* Take(int64_t count) {
    return reinterpret_cast<T*>(TakeBytes(count * static_cast<int64_t>(sizeof(T))));
  }
  uint8_t* TakeBytes(int64_t bytes);

  int64_t taken() const { return taken_; }

 private:
  uint8_t* base_ = nullptr;
  int64_t bytes_ = 0;
  int64_t taken_ = 0;
};

// What the device has free now, and in all, by its driver: with what other processes hold.
struct DeviceMemoryInfo {
  int64_t free = 0;
  int64_t total = 0;
};
absl::StatusOr<DeviceMemoryInfo> ReadDeviceMemory();

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DEVICE_MEMORY_H_
