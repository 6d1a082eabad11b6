// A GPU of this machine, given as "cuda:0" (what CUDA calls it, after CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER),
// "cuda:GPU-3f1a" (its uuid, or enough of its beginning) or "cuda:3b:00.0" (its PCI address).
//
// Opening takes the device's lock (device_lock.h) and waits for what a killed process has left on it, but makes no
// context: that comes with the first model, so a parked worker holds nothing. Memory is told by NVML, which counts all
// processes of the machine, else by CUDA.
//
// The ways to other devices are told by NVML, and where it is absent or says nothing of one, by CUDA's attributes of
// the pair: access with native atomics is NVLink (how many, CUDA does not say: one is assumed), else it is PCIe, within
// a NUMA node or between two.
//
// Facts are fixed after Open; memory is looked at as it is. Any thread; Load() belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_DEVICE_H_
#define TANDEM_WORKER_CUDA_DEVICE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/cuda/backend.h"
#include "worker/device.h"
#include "worker/device_lock.h"
#include "worker/topology/nvml_device.h"
#include "worker/topology/nvml_reader.h"

namespace tandem::worker {

struct CudaDeviceOptions {
  std::string spec = "cuda:0";
  std::string node;  // empty: the host's name
  double memory_utilization = 0.9;
  int64_t reserve = 0;  // bytes left to others, before the utilisation
  std::string nvml_library = "libnvidia-ml.so.1";
  std::chrono::milliseconds leftovers_patience{10000};  // for what a killed process holds
  std::string root;                                     // stands before /sys and /proc, for tests
};

class CudaDevice final : public Device {
 public:
  static bool IsCuda(absl::string_view spec);

  // INVALID_ARGUMENT or FAILED_PRECONDITION where this machine can never serve the spec as it is called: no plugin, no
  // driver, no such device (what there is is listed). ALREADY_EXISTS where another worker has it.
  // `on_lost`: as CudaPlugin::open_device.
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Open(const CudaDeviceOptions& options, const CudaPlugin* plugin,
                                                          std::function<void(absl::string_view)> on_lost);

  int64_t FreeBytes() const override;
  int64_t FreeOfTotal() const override;
  int64_t HeldBytes() const override;
  int64_t ExactHeldBytes() const override { return HeldBytes(); }
  // To the cores beside the device.
  void PinThread() const override;

  CudaDeviceHandle& handle() const { return *handle_; }
  const CudaDeviceFacts& facts() const { return handle_->Facts(); }
  const NvmlDeviceMonitor* nvml() const { return nvml_.get(); }  // null: there is none

 private:
  explicit CudaDevice(DeviceLock lock) : lock_(std::move(lock)) {}

  void ReadSurroundings(const CudaDeviceOptions& options, const std::vector<CudaDeviceFacts>& all);
  void ReadNvmlLinks(const NvmlFacts& machine, const std::vector<CudaDeviceFacts>& all);
  void ReadCudaWays(const CudaDeviceOptions& options, const std::vector<CudaDeviceFacts>& all);
  std::optional<CudaMemory> ReadMemory() const;

  const DeviceLock lock_;
  std::unique_ptr<NvmlDeviceMonitor> nvml_;
  std::unique_ptr<CudaDeviceHandle> handle_;
  std::vector<int> cores_;
  int64_t used_at_open_ = 0;  // by others
};

// The device that `spec` names, by its place in `devices`. INVALID_ARGUMENT listing them. `hidden` says what was hidden
// from CUDA, if anything was.
absl::StatusOr<int> FindCudaDevice(const std::string& spec, const std::vector<CudaDeviceFacts>& devices,
                                   absl::string_view hidden);
// "cuda:0 NVIDIA H100 80GB HBM3, GPU-3f1a.., 0000:3b:00.0"
std::string DescribeCudaDevice(const CudaDeviceFacts& facts);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_CUDA_DEVICE_H_
