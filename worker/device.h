// The device that this process computes on, and the facts about it that the scheduler plans with.
//
// A CPU device is a share of the host: of its memory (the control group's limit or the RAM, over the number of CPU
// devices), and of its cores. Its uuid stays over restarts: it is made of the machine's id, the node's name and the
// index.
//
// Fixed after Open; FreeBytes() and the like read the system. Any thread.
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
  std::string root;  // Stands before /proc, /sys and /etc, for tests.
};

class CpuDevice {
 public:
  // INVALID_ARGUMENT for a device that this build has not, or numbers out of range.
  static absl::StatusOr<CpuDevice> Open(const DeviceOptions& options);

  const std::string& node() const { return node_; }
  int index() const { return index_; }
  const std::string& model() const { return model_; }  // "AMD EPYC 7B13"
  const std::string& uuid() const { return uuid_; }
  int numa_node() const { return numa_node_; }  // -1: unknown
  int threads() const { return threads_; }
  int64_t memory_total() const { return memory_total_; }
  double memory_utilization() const { return memory_utilization_; }
  // The core that the engine thread is bound to, where each device can have one of its own.
  std::optional<int> core() const { return core_; }

  // The other CPU devices of this machine, and the way to them by what the kernel says.
  struct Peer {
    std::string uuid;
    placement::PathKind link;
  };
  const std::vector<Peer>& peers() const { return peers_; }

  // What this process may still take: by the device's utilisation, and by what the machine has left beside the share
  // that the utilisation keeps free for others.
  int64_t FreeBytes() const;
  // Of the device, without regard to its utilisation.
  int64_t FreeOfTotal() const;
  // What the device may give to all its shards together.
  int64_t Budget() const;

  // Binds the calling thread to core(). Best effort.
  void PinThread() const;

 private:
  CpuDevice() = default;

  std::string root_;
  std::string node_;
  int index_ = 0;
  std::string model_;
  std::string uuid_;
  int numa_node_ = -1;
  int threads_ = 1;
  int64_t memory_total_ = 0;
  double memory_utilization_ = 1;
  std::optional<int> core_;
  std::vector<Peer> peers_;
};

// Private resident bytes of this process: its heap, stacks and anonymous maps. 0 where they can not be read. Cheap; the
// kernel counts by CPU and may be some MiB behind.
int64_t PrivateBytes(const std::string& root = "");
// The same, exact: the kernel walks the page tables for it. For the ledger, twice in a load.
int64_t ExactPrivateBytes(const std::string& root = "");

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_DEVICE_H_
