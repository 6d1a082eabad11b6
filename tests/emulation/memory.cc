// Memory of the fake runtime: every allocation is one of malloc's, of its exact size, so that AddressSanitizer sees
// what lies beyond it. New memory is no number in every floating type, as far as filling it is cheap.
//
// A copy from the host reads it when the stream comes to it. What the host writes there in between, or gives back
// before the copy is done, is reported.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

#include "tests/emulation/findings.h"
#include "tests/emulation/runtime.h"

namespace {

using tandem::emulation::Enqueue;
using tandem::emulation::Report;
using tandem::emulation::Result;
using tandem::emulation::Runtime;
using tandem::emulation::TheRuntime;

constexpr size_t kAlignment = 256;
constexpr size_t kPage = 4096;  // What is large begins at one, so that it can be shared (ipc_memory.cc).
constexpr size_t kLarge = size_t{64} << 10;
constexpr size_t kFilled = size_t{64} << 20;

// The host's side of copies that are on their way.
std::mutex under_way_mutex;
std::multimap<uintptr_t, size_t> under_way;  // Guarded by under_way_mutex.

class HostSide {
 public:
  // Of `rows` rows of `width` bytes.
  HostSide(const void* from, size_t pitch, size_t width, size_t rows)
      : from_(static_cast<const char*>(from)), pitch_(pitch), width_(width), rows_(rows), before_(Sum()) {
    const std::lock_guard<std::mutex> lock(under_way_mutex);
    place_ = under_way.emplace(reinterpret_cast<uintptr_t>(from), rows == 0 ? 0 : (rows - 1) * pitch + width);
  }
  ~HostSide() {
    const std::lock_guard<std::mutex> lock(under_way_mutex);
    under_way.erase(place_);
  }
  HostSide(const HostSide&) = delete;

  void Check() const {
    if (Sum() != before_) Report("host memory was written to between the call of a copy from it and the copy");
  }

 private:
  uint64_t Sum() const {
    uint64_t sum = 14695981039346656037u;
    for (size_t row = 0; row < rows_; ++row) {
      for (size_t i = 0; i < width_; ++i) {
        sum = (sum ^ static_cast<unsigned char>(from_[row * pitch_ + i])) * 1099511628211u;
      }
    }
    return sum;
  }

  const char* const from_;
  const size_t pitch_, width_, rows_;
  const uint64_t before_;
  std::multimap<uintptr_t, size_t>::iterator place_;
};

// For a copy that is put on a stream and reads the host's memory; null for others. Captured copies read what is there
// when the graph runs.
std::shared_ptr<HostSide> WatchHost(const void* from, size_t pitch, size_t width, size_t rows, cudaMemcpyKind kind,
                                    cudaStream_t stream) {
  if (kind != cudaMemcpyHostToDevice || stream == nullptr || stream->capture != nullptr) return nullptr;
  return std::make_shared<HostSide>(from, pitch, width, rows);
}

bool UnderWay(const void* pointer, size_t bytes) {
  const std::lock_guard<std::mutex> lock(under_way_mutex);
  const auto begin = reinterpret_cast<uintptr_t>(pointer);
  return std::any_of(under_way.begin(), under_way.end(),
                     [&](const auto& one) { return one.first < begin + bytes && begin < one.first + one.second; });
}

void* Take(size_t bytes) {
  void* pointer = nullptr;
  if (posix_memalign(&pointer, bytes >= kLarge ? kPage : kAlignment, std::max<size_t>(bytes, 1)) != 0) return nullptr;
  std::memset(pointer, 0xff, std::min(bytes, kFilled));
  return pointer;
}

}  // namespace

namespace tandem::emulation {

size_t AllocatedBytes(int device) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.devices[static_cast<size_t>(device)].allocated;
}

}  // namespace tandem::emulation

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  EMULATED_CALL("cudaMalloc");
  if (const cudaError_t failed = tandem::emulation::OutsideOfCaptures(); failed != cudaSuccess) return Result(failed);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  const int number = tandem::emulation::current_device;
  tandem::emulation::Device& device = runtime.devices[static_cast<size_t>(number)];
  const size_t used = device.allocated + runtime.machine.taken_bytes;
  if (used > runtime.machine.memory_bytes || bytes > runtime.machine.memory_bytes - used) {
    return Result(cudaErrorMemoryAllocation);
  }
  *pointer = Take(bytes);
  if (*pointer == nullptr) return Result(cudaErrorMemoryAllocation);
  device.allocated += bytes;
  runtime.memory[*pointer] = {bytes, number};
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  EMULATED_CALL("cudaFree");
  if (const cudaError_t failed = tandem::emulation::OutsideOfCaptures(); failed != cudaSuccess) return Result(failed);
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t failed = cudaDeviceSynchronize(); failed != cudaSuccess) return failed;
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  const auto found = runtime.memory.find(pointer);
  if (found == runtime.memory.end()) return Result(cudaErrorInvalidValue);
  if (found->second.device < static_cast<int>(runtime.devices.size())) {
    size_t& allocated = runtime.devices[static_cast<size_t>(found->second.device)].allocated;
    allocated -= std::min(allocated, found->second.bytes);
  }
  runtime.memory.erase(found);
  tandem::emulation::Unshare(pointer);
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes, unsigned int) {
  EMULATED_CALL("cudaMallocHost");
  if (const cudaError_t failed = tandem::emulation::OutsideOfCaptures(); failed != cudaSuccess) return Result(failed);
  *pointer = Take(bytes);
  if (*pointer == nullptr) return Result(cudaErrorMemoryAllocation);
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  runtime.host_memory[*pointer] = bytes;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned int flags) {
  return cudaMallocHost(pointer, bytes, flags);
}

cudaError_t cudaFreeHost(void* pointer) {
  EMULATED_CALL("cudaFreeHost");
  if (pointer == nullptr) return cudaSuccess;
  Runtime& runtime = TheRuntime();
  size_t bytes = 0;
  {
    const std::lock_guard<std::mutex> lock(runtime.mutex);
    const auto found = runtime.host_memory.find(pointer);
    if (found == runtime.host_memory.end()) return Result(cudaErrorInvalidValue);
    bytes = found->second;
    runtime.host_memory.erase(found);
  }
  if (UnderWay(pointer, bytes)) {
    Report("host memory was given back before a copy from it was done");
    cudaDeviceSynchronize();
  }
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void*, size_t, unsigned int) {
  EMULATED_CALL("cudaHostRegister");
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void*) {
  EMULATED_CALL("cudaHostUnregister");
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  EMULATED_CALL("cudaMemGetInfo");
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  const size_t used =
      runtime.devices[static_cast<size_t>(tandem::emulation::current_device)].allocated + runtime.machine.taken_bytes;
  *total = runtime.machine.memory_bytes;
  *free = *total - std::min(*total, used);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  EMULATED_CALL("cudaMemcpyAsync");
  const auto host = WatchHost(from, bytes, bytes, 1, kind, stream);
  return Result(Enqueue(stream, [=] {
    if (host != nullptr) host->Check();
    if (bytes > 0) std::memmove(to, from, bytes);
    return cudaSuccess;
  }));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  EMULATED_CALL("cudaMemcpy");
  if (const cudaError_t failed = tandem::emulation::OutsideOfCaptures(); failed != cudaSuccess) return Result(failed);
  return Result(Enqueue(nullptr, [=] {
    if (bytes > 0) std::memmove(to, from, bytes);
    return cudaSuccess;
  }));
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  EMULATED_CALL("cudaMemcpy2DAsync");
  if (width > to_pitch || width > from_pitch) return Result(cudaErrorInvalidValue);
  const auto host = WatchHost(from, from_pitch, width, height, kind, stream);
  return Result(Enqueue(stream, [=] {
    if (host != nullptr) host->Check();
    for (size_t row = 0; row < height; ++row) {
      std::memmove(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
    }
    return cudaSuccess;
  }));
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  EMULATED_CALL("cudaMemcpyPeerAsync");
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream);
}

cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
  EMULATED_CALL("cudaMemcpyPeer");
  return cudaMemcpy(to, from, bytes, cudaMemcpyDefault);
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  EMULATED_CALL("cudaMemsetAsync");
  return Result(Enqueue(stream, [=] {
    if (bytes > 0) std::memset(to, value, bytes);
    return cudaSuccess;
  }));
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  EMULATED_CALL("cudaMemset");
  return Result(Enqueue(nullptr, [=] {
    if (bytes > 0) std::memset(to, value, bytes);
    return cudaSuccess;
  }));
}
