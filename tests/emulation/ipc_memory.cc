// Memory of one process that another can open (cudaIpc*): the pages of the allocation are replaced, in place, by pages
// of shared memory with the same contents. As on a device, a process can not open its own.
#include <cuda_runtime.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
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
  char name[40];
  uint64_t bytes;
  int32_t pid;
};
static_assert(sizeof(Said) <= sizeof(cudaIpcMemHandle_t));

std::mutex mutex;
std::map<void*, size_t> opened;  // Guarded by mutex, as is
std::map<void*, size_t> shared;  // what this process offered

}  // namespace

void tandem::emulation::Unshare(void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = shared.find(pointer);
  if (found == shared.end()) return;
  // The heap that these pages go back to must not be shared with a child of this process.
  if (mmap(pointer, found->second, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != pointer) {
    std::abort();
  }
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
  Said said{.bytes = bytes, .pid = getpid()};
  uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != static_cast<ssize_t>(sizeof(random))) return Result(cudaErrorUnknown);
  std::snprintf(said.name, sizeof(said.name), "/tandem-fake-ipc-%016llx", static_cast<unsigned long long>(random));
  const int fd = shm_open(said.name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return Result(cudaErrorUnknown);
  const bool filled = ftruncate(fd, static_cast<off_t>(bytes)) == 0 &&
                      pwrite(fd, pointer, bytes, 0) == static_cast<ssize_t>(bytes) &&
                      mmap(pointer, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == pointer;
  close(fd);
  if (!filled) return Result(cudaErrorUnknown);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    shared[pointer] = bytes;
  }
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
  const int fd = shm_open(said.name, O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return Result(cudaErrorInvalidResourceHandle);
  void* memory = mmap(nullptr, said.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  shm_unlink(said.name);  // one opener each is enough for what is tested: groups of two
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
