// What the parts of the fake runtime share: the machine, the errors, and what every call begins with.
#ifndef TANDEM_TESTS_EMULATION_RUNTIME_H_
#define TANDEM_TESTS_EMULATION_RUNTIME_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/emulation/control.h"
#include "tests/emulation/stream.h"

namespace tandem::emulation {

struct Device {
  cudaError_t spoiled = cudaSuccess;
  size_t allocated = 0;
  bool context = false;  // some call of this process had to make one
  std::vector<cudaStream_t> streams;
};

struct Allocation {
  size_t bytes = 0;
  int device = 0;
};

struct Runtime {
  std::mutex mutex;
  Machine machine;
  std::vector<int> visible;  // physical number of each device
  std::vector<Device> devices;
  std::map<void*, Allocation> memory;   // of devices
  std::map<void*, size_t> host_memory;  // page-locked
  std::map<std::string, int64_t> calls;
  std::map<std::string, std::map<int64_t, cudaError_t>> failures;  // by the number of the call
  std::map<std::pair<const void*, int>, size_t> shared_bytes;      // by kernel and device, where asked for
  std::set<std::pair<const void*, int>> loaded;                    // kernels, by device
  int global_captures = 0;
};

// Made from the environment when first used.
Runtime& TheRuntime();

extern thread_local int current_device;
extern thread_local int captures_of_this_thread;

// What a call begins with: counts it, and returns the error that it is to fail with. Every call of the runtime
// returns through Result, which keeps the last error.
cudaError_t Begin(const char* call);
cudaError_t Result(cudaError_t error);

// Before memory is given back: its pages become private again, if another process could open them (ipc_memory.cc).
void Unshare(void* pointer);

// Whether a call that a capture does not bear may be made now. If not, the capture is spoiled.
cudaError_t OutsideOfCaptures();

}  // namespace tandem::emulation

// At the top of every runtime function.
#define EMULATED_CALL(name)                                                                 \
  do {                                                                                      \
    if (const cudaError_t failed = ::tandem::emulation::Begin(name); failed != cudaSuccess) \
      return ::tandem::emulation::Result(failed);                                           \
  } while (false)

#endif  // TANDEM_TESTS_EMULATION_RUNTIME_H_
