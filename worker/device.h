// The device that a worker computes on, and the facts about it that the scheduler plans with.
//
// A CPU device is a share of the host: of its memory (the control group's limit or the RAM, over the number of CPU
// devices), and of its cores. GPUs are in cuda_device.h, simulated ones in sim_device.h. A uuid stays over restarts: it
// is made of the machine's id, the node's name, the kind and the index.
//
// The facts are fixed after Open; FreeBytes() and the like look at the memory as it is. Any thread.
#ifndef TANDEM_WORKER_DEVICE_H_
#define TANDEM_WORKER_DEVICE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "placement/topology/topology.h"

namespace tandem::worker {

struct DeviceOptions {
  std::string spec = "cpu:0";
  std::string node;        // Empty: the host's name.
  int cpu_devices = 1;     // How many share this host.
  int64_t cpu_memory = 0;  // Bytes of this device; 0: its share of the host.
  int cpu_threads = 0;     // Compute threads; 0: its share of the cores.
  double memory_utilization = 0.9;
  int64_t reserve = 0;  // Bytes left to others, before the utilisation.
  std::string root;     // Stands before /proc, /sys and /etc, for tests.
};

class Device {
 public:
  virtual ~Device() = default;

  const std::string& node() const { return node_; }
  const std::string& kind() const { return kind_; }  // "cpu", "cuda", "sim"
  int index() const { return index_; }
  const std::string& model() const { return model_; }  // "AMD EPYC 7B13"
  const std::string& uuid() const { return uuid_; }
  const std::string& pci_bus_id() const { return pci_bus_id_; }  // empty: it has none
  int numa_node() const { return numa_node_; }                   // -1: unknown
  int threads() const { return threads_; }
  int64_t memory_total() const { return memory_total_; }
  double memory_utilization() const { return memory_utilization_; }
  std::string Name() const;  // "box/cpu:0", for people

  // The other devices of this machine, and the way to them by what the kernel says.
  struct Peer {
    std::string uuid;
    placement::PathKind link;
    int nvlinks = 0;               // as placement::Link
    std::string source = "sysfs";  // or "NVML", "CUDA"
  };
  const std::vector<Peer>& peers() const { return peers_; }

  // A cache of the cores that it computes on, second level and up. None for what is no CPU.
  struct Cache {
    int level = 0;
    int64_t bytes = 0;
    std::string cores;  // that share it: "0-3,8"
  };
  const std::vector<Cache>& caches() const { return caches_; }

  // What this worker may still take, the device's utilisation counted.
  virtual int64_t FreeBytes() const = 0;
  // Of the device, without regard to its utilisation.
  virtual int64_t FreeOfTotal() const = 0;
  // What this worker holds of the device. Cheap, and may be some MiB behind; the other one is exact.
  virtual int64_t HeldBytes() const = 0;
  virtual int64_t ExactHeldBytes() const = 0;
  // What the device may give to all its shards together.
  int64_t Budget() const;

  // Binds the calling thread to the device's own core, if it has one. Best effort.
  virtual void PinThread() const {}

 protected:
  // By what the flags ask for: `utilization` of the memory beside `reserve` bytes. INVALID_ARGUMENT where that is no
  // share of the device. REQUIRES: memory_total_.
  absl::Status SetShare(double utilization, int64_t reserve);

  Device() = default;
  Device(Device&&) = default;
  Device& operator=(Device&&) = default;

  std::string node_;
  std::string kind_;
  int index_ = 0;
  std::string model_;
  std::string uuid_;
  std::string pci_bus_id_;
  int numa_node_ = -1;
  int threads_ = 1;
  int64_t memory_total_ = 0;
  double memory_utilization_ = 1;
  std::vector<Peer> peers_;
  std::vector<Cache> caches_;
};

class CpuDevice final : public Device {
 public:
  // INVALID_ARGUMENT for a device that this build has not, or numbers out of range.
  static absl::StatusOr<CpuDevice> Open(const DeviceOptions& options);

  // By the device's utilisation, and by what the machine has left beside the share that the utilisation keeps free for
  // others.
  int64_t FreeBytes() const override;
  int64_t FreeOfTotal() const override;
  int64_t HeldBytes() const override;
  int64_t ExactHeldBytes() const override;
  void PinThread() const override;

  // The core that the engine thread is bound to, where each device can have one of its own.
  std::optional<int> core() const { return core_; }

 private:
  CpuDevice() = default;

  std::string root_;
  std::optional<int> core_;
};

// The host's name, for a worker that was not told one.
std::string HostName();
// Of the machine, the node's name and the device's name on it, "cpu:0": 32 hex digits.
std::string StableDigest(const std::string& root, const std::string& node, const std::string& device);

// Private resident bytes of this process: its heap, stacks and anonymous maps. 0 where they can not be read. Cheap; the
// kernel counts by CPU and may be some MiB behind.
int64_t PrivateBytes(const std::string& root = "");
// The same, exact: the kernel walks the page tables for it. For the ledger, twice in a load.
int64_t ExactPrivateBytes(const std::string& root = "");

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_DEVICE_H_
