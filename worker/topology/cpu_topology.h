// What the kernel says of the host's memory: which NUMA nodes it has, which cores they hold, how far apart they are,
// and which cores share which cache. From /sys/devices/system alone: hwloc would tell more, but nothing that is asked
// for here, and would be one more thing to install.
#ifndef TANDEM_WORKER_TOPOLOGY_CPU_TOPOLOGY_H_
#define TANDEM_WORKER_TOPOLOGY_CPU_TOPOLOGY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "placement/topology/topology.h"

namespace tandem::worker {

struct NumaNode {
  int id = 0;
  std::vector<int> cores;      // ascending; empty for memory without cores
  std::vector<int> distances;  // to the nodes in the order of CpuTopology::nodes; 10 = itself; empty: not told
};

struct CpuCache {
  int level = 0;           // 2 and up; the first level belongs to its core alone, and 32 KiB are no news
  int64_t bytes = 0;       // 0: not told
  std::vector<int> cores;  // that share it, ascending; never empty
};

struct CpuTopology {
  std::vector<NumaNode> nodes;   // by id; empty where the kernel tells nothing
  std::vector<CpuCache> caches;  // by level, then lowest core; of data or of both, not of instructions alone

  int NodeOf(int core) const;                                           // -1: not known
  std::vector<CpuCache> CachesOf(const std::vector<int>& cores) const;  // that any of these shares
  int Distance(int a, int b) const;  // of node ids, as the firmware counts; -1: not known
  // Between CPU devices on two NUMA nodes; -1 is a device that may run anywhere. Devices of a host with one node share
  // it, wherever they run; of several, whoever is not bound is taken for far away.
  placement::PathKind LinkBetween(int numa_a, int numa_b) const;
};

// `root` stands before /sys. What cannot be read is left out.
CpuTopology ReadCpuTopology(const std::string& root = "");

// "0-3,8", as the kernel writes sets of cores. REQUIRES: ascending.
std::string CoreListText(const std::vector<int>& cores);

// "0-3,8" as the kernel writes sets of cores. Stops at what it cannot read, and at 4096 entries.
std::vector<int> ParseCoreList(absl::string_view text);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_TOPOLOGY_CPU_TOPOLOGY_H_
