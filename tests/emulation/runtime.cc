// Devices, errors and kernels of the fake runtime.

#include "tests/emulation/runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "tests/emulation/block.h"
#include "tests/emulation/findings.h"

namespace tandem::emulation {

thread_local int current_device = 0;
thread_local int captures_of_this_thread = 0;

namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local const char* next_launch = nullptr;

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "driver version is insufficient"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
};

const ErrorText& TextOf(cudaError_t error) {
  for (const ErrorText& one : kErrors) {
    if (one.error == error) return one;
  }
  static constexpr ErrorText kOther = {cudaErrorUnknown, "cudaError", "another error"};
  return kOther;
}

bool Stays(cudaError_t error) {
  return error == cudaErrorECCUncorrectable || (error >= cudaErrorIllegalAddress && error <= cudaErrorLaunchFailure) ||
         error == cudaErrorUnknown || error == cudaErrorNvlinkUncorrectable;
}

// Questions that the driver answers without a context.
bool AsksOnly(std::string_view call) {
  return call.starts_with("cudaGetDevice") || call.starts_with("cudaDeviceGet") || call == "cudaDeviceCanAccessPeer";
}

int64_t NumberFrom(const char* variable, int64_t otherwise) {
  const char* const text = std::getenv(variable);
  int64_t number = 0;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : otherwise;
}

std::string UuidText(int physical) { return absl::StrFormat("GPU-7a4d0000-0000-4000-8000-%012x", physical + 1); }

// The devices that CUDA_VISIBLE_DEVICES leaves, in its order; the list ends at the first that is not there.
std::vector<int> VisibleDevices(int devices) {
  std::vector<int> visible;
  const char* const text = std::getenv("CUDA_VISIBLE_DEVICES");
  if (text == nullptr) {
    for (int i = 0; i < devices; ++i) visible.push_back(i);
    return visible;
  }
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    int found = -1;
    if (!absl::SimpleAtoi(part, &found)) {
      for (int i = 0; i < devices; ++i) {
        if (part.size() > 4 && UuidText(i).compare(0, part.size(), part.data(), part.size()) == 0) found = i;
      }
    }
    if (found < 0 || found >= devices) break;
    visible.push_back(found);
  }
  return visible;
}

void Arrange(Runtime& runtime, const Machine& machine) {
  runtime.machine = machine;
  runtime.visible = VisibleDevices(machine.devices);
  runtime.devices.assign(runtime.visible.size(), Device());
  runtime.calls.clear();
  runtime.failures.clear();
  runtime.shared_bytes.clear();
  runtime.loaded.clear();
}

}  // namespace

Runtime& TheRuntime() {
  static Runtime* const runtime = [] {
    auto* const made = new Runtime;
    Machine machine;
    machine.devices = static_cast<int>(NumberFrom("TANDEM_EMULATION_DEVICES", machine.devices));
    machine.bridges = NumberFrom("TANDEM_EMULATION_BRIDGES", machine.bridges) != 0;
    machine.memory_bytes =
        static_cast<size_t>(NumberFrom("TANDEM_EMULATION_MEMORY", static_cast<int64_t>(machine.memory_bytes)));
    Arrange(*made, machine);
    const char* const fail = std::getenv("TANDEM_EMULATION_FAIL");
    for (const absl::string_view part : absl::StrSplit(fail == nullptr ? "" : fail, ',', absl::SkipEmpty())) {
      const std::vector<std::string> fields = absl::StrSplit(part, ':');
      int64_t nth = 0;
      int error = 0;
      if (fields.size() == 3 && absl::SimpleAtoi(fields[1], &nth) && absl::SimpleAtoi(fields[2], &error)) {
        made->failures[fields[0]][nth] = static_cast<cudaError_t>(error);
      } else {
        Report(absl::StrCat("TANDEM_EMULATION_FAIL: '", part, "' is not call:number:error"));
      }
    }
    return made;  // Never freed: streams may still run while the process ends.
  }();
  return *runtime;
}

void SetMachine(const Machine& machine) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  Arrange(runtime, machine);
  last_error = cudaSuccess;
}

void FailCall(const std::string& call, int64_t nth, cudaError_t error) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  runtime.failures[call][runtime.calls[call] + nth] = error;
}

int64_t CallsOf(const std::string& call) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.calls[call];
}

void SpoilDevice(int device, cudaError_t error) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  cudaError_t& spoiled = runtime.devices[static_cast<size_t>(device)].spoiled;
  if (spoiled == cudaSuccess) spoiled = error;
}

bool HasContext(int device) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.devices[static_cast<size_t>(device)].context;
}

cudaError_t Begin(const char* call) {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  const int64_t number = ++runtime.calls[call];
  if (runtime.devices.empty()) return cudaErrorNoDevice;
  Device& device = runtime.devices[static_cast<size_t>(current_device)];
  if (!AsksOnly(call)) device.context = true;
  if (device.spoiled != cudaSuccess) return device.spoiled;
  const auto planned = runtime.failures.find(call);
  if (planned == runtime.failures.end()) return cudaSuccess;
  const auto now = planned->second.find(number);
  if (now == planned->second.end()) return cudaSuccess;
  if (Stays(now->second)) device.spoiled = now->second;
  return now->second;
}

cudaError_t Result(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

void NameNextLaunch(const char* kernel) { next_launch = kernel; }

cudaError_t SetSharedBytes(const void* kernel, int bytes) {
  EMULATED_CALL("cudaFuncSetAttribute");
  if (bytes < 0 || static_cast<size_t>(bytes) > SharedMemory::kMostBytes) return Result(cudaErrorInvalidValue);
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  runtime.shared_bytes[{kernel, current_device}] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

cudaError_t LaunchKernel(const void* kernel, dim3 grid, dim3 block, size_t dynamic_shared_bytes, cudaStream_t stream,
                         std::function<void()> body) {
  EMULATED_CALL("cudaLaunchKernel");
  const char* const named = std::exchange(next_launch, nullptr);
  const char* const name = named == nullptr ? "a kernel" : named;
  const int device = current_device;
  size_t most = SharedMemory::kStaticBytes;
  size_t most_dynamic = most;
  {
    Runtime& runtime = TheRuntime();
    const std::lock_guard<std::mutex> lock(runtime.mutex);
    // What was asked for comes on top of the static arrays; what was not is shared with them.
    if (const auto asked = runtime.shared_bytes.find({kernel, device}); asked != runtime.shared_bytes.end()) {
      most = SharedMemory::kMostBytes;
      most_dynamic = asked->second;
    }
    // A module is loaded when a kernel of it is first launched, for which the driver may wait for the whole device.
    if (runtime.loaded.insert({kernel, device}).second && stream != nullptr && stream->capture != nullptr) {
      Report(absl::StrCat(name, ": launched for the first time within a capture"));
    }
  }
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 || threads == 0 || threads > 1024 ||
      block.z > 64 || dynamic_shared_bytes > most_dynamic) {
    return Result(cudaErrorInvalidConfiguration);
  }
  Block::Launch launch{name, grid, block, dynamic_shared_bytes, most, std::move(body)};
  return Result(Enqueue(stream, [launch = std::move(launch), device]() -> cudaError_t {
    thread_local Block block_of_this_thread;
    current_device = device;
    if (const cudaError_t failed = Begin("kernel"); failed != cudaSuccess) return failed;
    return block_of_this_thread.Run(launch) ? cudaSuccess : cudaErrorLaunchFailure;
  }));
}

}  // namespace tandem::emulation

using tandem::emulation::Result;
using tandem::emulation::Runtime;
using tandem::emulation::TheRuntime;

const char* cudaGetErrorName(cudaError_t error) { return tandem::emulation::TextOf(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return tandem::emulation::TextOf(error).text; }

cudaError_t cudaGetLastError() { return std::exchange(tandem::emulation::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return tandem::emulation::last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(TheRuntime().devices.size());
  EMULATED_CALL("cudaGetDeviceCount");
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= static_cast<int>(TheRuntime().devices.size())) {
    return Result(TheRuntime().devices.empty() ? cudaErrorNoDevice : cudaErrorInvalidDevice);
  }
  tandem::emulation::current_device = device;
  EMULATED_CALL("cudaSetDevice");
  return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned int, unsigned int) { return cudaSetDevice(device); }
cudaError_t cudaSetDeviceFlags(unsigned int) { return cudaSuccess; }

cudaError_t cudaGetDevice(int* device) {
  EMULATED_CALL("cudaGetDevice");
  *device = tandem::emulation::current_device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  EMULATED_CALL("cudaGetDeviceProperties");
  Runtime& runtime = TheRuntime();
  if (device < 0 || device >= static_cast<int>(runtime.devices.size())) return Result(cudaErrorInvalidDevice);
  const int physical = runtime.visible[static_cast<size_t>(device)];
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "Tandem emulated device");
  const unsigned char uuid[16] = {0x7a, 0x4d, 0, 0, 0, 0, 0x40, 0,
                                  0x80, 0,    0, 0, 0, 0, 0,    static_cast<unsigned char>(physical + 1)};
  std::memcpy(properties->uuid.bytes, uuid, sizeof(uuid));
  properties->totalGlobalMem = runtime.machine.memory_bytes;
  properties->sharedMemPerBlock = tandem::emulation::SharedMemory::kStaticBytes;
  properties->sharedMemPerBlockOptin = tandem::emulation::SharedMemory::kMostBytes;
  properties->sharedMemPerMultiprocessor = size_t{100} << 10;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->multiProcessorCount = runtime.machine.multiprocessors;
  properties->major = 8;
  properties->minor = 6;
  properties->pciBusID = physical + 1;
  properties->l2CacheSize = 4 << 20;
  properties->memoryBusWidth = 384;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  EMULATED_CALL("cudaDeviceGetAttribute");
  cudaDeviceProp properties;
  if (const cudaError_t failed = cudaGetDeviceProperties(&properties, device); failed != cudaSuccess) return failed;
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(properties.sharedMemPerBlock);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(properties.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      break;
    case cudaDevAttrPciBusId:
      *value = properties.pciBusID;
      break;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrComputeMode:
      *value = 0;
      break;
    case cudaDevAttrClockRate:
      *value = 1500000;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 7000000;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = properties.memoryBusWidth;
      break;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      break;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int device) {
  EMULATED_CALL("cudaDeviceGetPCIBusId");
  cudaDeviceProp properties;
  if (const cudaError_t failed = cudaGetDeviceProperties(&properties, device); failed != cudaSuccess) return failed;
  std::snprintf(id, static_cast<size_t>(length), "%04x:%02x:%02x.0", properties.pciDomainID, properties.pciBusID,
                properties.pciDeviceID);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* id) {
  EMULATED_CALL("cudaDeviceGetByPCIBusId");
  for (int i = 0; i < static_cast<int>(TheRuntime().devices.size()); ++i) {
    char mine[32];
    if (cudaDeviceGetPCIBusId(mine, sizeof(mine), i) == cudaSuccess && std::strcmp(mine, id) == 0) {
      *device = i;
      return cudaSuccess;
    }
  }
  return Result(cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  EMULATED_CALL("cudaDeviceCanAccessPeer");
  *can = TheRuntime().machine.peer_access && device != peer ? 1 : 0;
  return cudaSuccess;
}

// Devices stand in bridged pairs, 0 with 1 and 2 with 3, where the machine has bridges.
cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int device, int peer) {
  EMULATED_CALL("cudaDeviceGetP2PAttribute");
  const auto& runtime = TheRuntime();
  const int count = static_cast<int>(runtime.devices.size());
  if (device < 0 || peer < 0 || device >= count || peer >= count || device == peer) {
    return Result(cudaErrorInvalidDevice);
  }
  const bool access = runtime.machine.peer_access;
  const bool bridged = access && runtime.machine.bridges && device / 2 == peer / 2;
  switch (attribute) {
    case cudaDevP2PAttrPerformanceRank:
      *value = bridged ? 0 : 1;
      return cudaSuccess;
    case cudaDevP2PAttrAccessSupported:
    case cudaDevP2PAttrCudaArrayAccessSupported:
      *value = access;
      return cudaSuccess;
    case cudaDevP2PAttrNativeAtomicSupported:
      *value = bridged;
      return cudaSuccess;
  }
  return Result(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int) {
  EMULATED_CALL("cudaDeviceEnablePeerAccess");
  if (peer == tandem::emulation::current_device) return Result(cudaErrorInvalidDevice);
  return TheRuntime().machine.peer_access ? cudaSuccess : Result(cudaErrorPeerAccessUnsupported);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
