// Memory of one process that another can open (cudaIpc*): the pages of the allocation are replaced, in place, by pages
// of shared memory with the same contents, which have no name and go with their owner. As on a device, a process can
// not open its own.
#include <cuda_runtime.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/emulation/runtime.h"

namespace {

using tandem::emulation::Result;
using tandem::emulation::Runtime;
using tandem::emulation::TheRuntime;

// What a handle says. Fits cudaIpcMemHandle_t.
struct Said {
  uint64_t bytes;
  int32_t pid;
  int32_t file;  // of that process
};
static_assert(sizeof(Said) <= sizeof(cudaIpcMemHandle_t));

struct Offer {
  size_t bytes;
  int file;
};

std::mutex mutex;
std::map<void*, size_t> opened;  // Guarded by mutex, as is
std::map<void*, Offer> shared;   // what this process offered

}  // namespace

void tandem::emulation::Unshare(void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = shared.find(pointer);
  if (found == shared.end()) return;
  // The heap that these pages go back to must not be shared with a child of this process.
  if (mmap(pointer, found->second.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
      pointer) {
    std::abort();
  }
  close(found->second.file);
  shared.erase(found);
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t* handle, void* pointer) {
  EMULATED_CALL("cudaIpcGetMemHandle");
  size_t bytes = 0;
  {
    Runtime& runtime = TheRuntime();
    const std::lock_guard<std::mutex> lock(runtime.mutex);
    const auto found = runtime.memory.find(pointer);
    if (found == runtime.memory.end()) return Result(cudaErrorInvalidValue);
    if (!runtime.machine.peer_access) return Result(cudaErrorNotSupported);
    bytes = found->second.bytes;
  }
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  // Whole pages of its own, or other allocations would go along.
  if (reinterpret_cast<uintptr_t>(pointer) % page != 0 || bytes % page != 0) return Result(cudaErrorNotSupported);
  const int file = memfd_create("tandem-fake-ipc", MFD_CLOEXEC);
  if (file < 0) return Result(cudaErrorUnknown);
  if (ftruncate(file, static_cast<off_t>(bytes)) != 0 ||
      pwrite(file, pointer, bytes, 0) != static_cast<ssize_t>(bytes) ||
      mmap(pointer, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != pointer) {
    close(file);
    return Result(cudaErrorUnknown);
  }
  {
    const std::lock_guard<std::mutex> lock(mutex);
    shared[pointer] = {bytes, file};
  }
  const Said said{.bytes = bytes, .pid = getpid(), .file = file};
  std::memset(handle, 0, sizeof(*handle));
  std::memcpy(handle, &said, sizeof(said));
  return cudaSuccess;
}

cudaError_t cudaIpcOpenMemHandle(void** pointer, cudaIpcMemHandle_t handle, unsigned int) {
  EMULATED_CALL("cudaIpcOpenMemHandle");
  *pointer = nullptr;
  Said said;
  std::memcpy(&said, &handle, sizeof(said));
  if (said.pid == getpid() || said.pid == 0) return Result(cudaErrorInvalidValue);
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/%d/fd/%d", said.pid, said.file);
  const int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return Result(cudaErrorInvalidResourceHandle);
  void* memory = mmap(nullptr, said.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return Result(cudaErrorUnknown);
  const std::lock_guard<std::mutex> lock(mutex);
  opened[memory] = said.bytes;
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void* pointer) {
  EMULATED_CALL("cudaIpcCloseMemHandle");
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = opened.find(pointer);
  if (found == opened.end()) return Result(cudaErrorInvalidValue);
  munmap(pointer, found->second);
  opened.erase(found);
  return cudaSuccess;
}
