// What the CUDA plugin offers to tandem-worker, in types that need no CUDA header.
//
// The worker is one program that also starts where there is no driver, no GPU and no library of NVIDIA's. All that
// needs them is in a library of its own, libtandem_cuda.so, which cuda_plugin.h loads when a GPU is asked for. The two
// are built from the same sources at the same time: kCudaPluginAbi and the build's stamp say so before anything else is
// called. Objects made on one side are used through virtual functions on the other; nothing else is shared.
#ifndef TANDEM_WORKER_CUDA_BACKEND_H_
#define TANDEM_WORKER_CUDA_BACKEND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/comm/communicator.h"
#include "worker/exec/executor.h"
#include "worker/probe_road.h"

namespace tandem::worker {

// A device as the CUDA runtime sees it, after CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER.
struct CudaDeviceFacts {
  int ordinal = 0;  // what the runtime calls it
  std::string name;
  std::string uuid;    // "GPU-3f1a..", as NVML and nvidia-smi write it
  std::string bus_id;  // "00000000:3b:00.0", as NvmlDevice::bus_id
  int64_t memory_total = 0;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  int clock_khz = 0;  // of the multiprocessors, at most; 0: not told
};

// The way from one device to another, by the driver's word.
struct CudaPeerWay {
  bool access = false;          // the one may read and write the other's memory
  bool native_atomics = false;  // and do atomic operations there: an NVLink, or a chip-to-chip link
  int performance_rank = 0;     // among the ways of this machine; lower is better, and says no more than that
};

// Both numbers count what every process of the device holds.
struct CudaMemory {
  int64_t free = 0;
  int64_t total = 0;
};

struct CudaModelOptions {
  std::string folder;          // as CpuModelOptions, and so are:
  std::string task;            // generate | embed | rerank
  std::string dtype = "auto";  // auto | bfloat16 | float16
  int32_t max_batch_tokens = 512;
  int32_t max_sequences = 64;
  int32_t max_model_len = 0;       // longest context that will come; 0: the model's own
  int64_t memory_limit_bytes = 0;  // for all but the KV pool; 0: what the device has free now
};

// One device of this process. Facts(), Memory() and WayTo() are for any thread; Load() and what it returns belong to
// the engine thread of the group that `communicator` is of, OpenRoad() and its road to the thread of a link probe.
class CudaDeviceHandle {
 public:
  virtual ~CudaDeviceHandle() = default;

  virtual const CudaDeviceFacts& Facts() const = 0;
  // Any thread. An error is the device's: it is lost, or its context is.
  virtual absl::StatusOr<CudaMemory> Memory() const = 0;
  virtual absl::StatusOr<CudaPeerWay> WayTo(const CudaDeviceFacts& peer) const = 0;

  // Loads the communicator's rank. Codes as LoadCpuModel. `communicator` outlives the executor.
  virtual absl::StatusOr<std::unique_ptr<Executor>> Load(const CudaModelOptions& options,
                                                         Communicator* communicator) = 0;

  // The road of a group of this device and the other rank's, for messages of at most `floats`; both ranks of
  // `communicator` call it. Makes the context. worker/cuda/device_road.h says how it ends.
  virtual absl::StatusOr<std::unique_ptr<ProbeRoad>> OpenRoad(Communicator* communicator, size_t floats) = 0;
};

// The plugin's door, a table of plain functions.
struct CudaPlugin {
  uint32_t abi = 0;             // kCudaPluginAbi of the plugin
  const char* build = nullptr;  // TANDEM_CUDA_PLUGIN_BUILD of the plugin

  // All devices that the runtime shows, by ordinal. FAILED_PRECONDITION without a driver, or with one that is older
  // than the toolkit of the build; both versions are named.
  absl::StatusOr<std::vector<CudaDeviceFacts>> (*list_devices)();
  // One device for each process. Makes no context: that comes with the first model, or the first look at the memory.
  // `on_lost`: the device is lost to this process, by an error that stays or work that does not end, and only the end
  // of the process frees it. From any thread, perhaps more than once; returns.
  absl::StatusOr<std::unique_ptr<CudaDeviceHandle>> (*open_device)(
      int ordinal, std::function<void(absl::string_view reason)> on_lost);
};

// Raised with every change of this file, or of a header that it includes.
inline constexpr uint32_t kCudaPluginAbi = 4;
// Two compilers, or two releases, may lay out a class each in its own way.
#define TANDEM_CUDA_PLUGIN_BUILD "tandem " TANDEM_VERSION ", compiler " __VERSION__

inline constexpr char kCudaPluginDoor[] = "tandem_cuda_plugin";
using CudaPluginDoor = const CudaPlugin* (*)();

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_CUDA_BACKEND_H_
