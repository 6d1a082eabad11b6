// Reads our own cluster file: hosts by description or by another topology file, many of one kind in one entry.
//
//   hosts:
//     - name: box                 letters, digits, "-", "_" and "."; unique
//       count: 8                  as many of them, called box-0 to box-7
//       gpu: H100                 chip; else that of --gpu
//       devices: 8                1 to 64
//       memory: 80GiB             of each, or a list; else what the chip usually has
//       numa: [0,0,0,0,1,1,1,1]   one per device; else not known
//       nvswitch: true            all devices on one NVSwitch, with all links of the chip
//       links: [[0, 1, NV4]]      pairs with a label of `nvidia-smi topo -m`
//       default_link: PHB         of all other pairs of a NUMA node; pairs of two nodes are SYS
//       network: 400Gbit/s        or MB/s, GB/s, Mbit/s; all cards together
//     - name: old
//       topology: old.txt         a matrix or an NCCL XML, relative to this file; with gpu, count, memory, network
//
// An unknown key, a key given twice and every value out of range is refused with file and line. At most 4 MiB and
// 100,000 devices.
#ifndef TANDEM_PLACEMENT_FILES_CLUSTER_FILE_H_
#define TANDEM_PLACEMENT_FILES_CLUSTER_FILE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "placement/files/read_options.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

inline constexpr size_t kMostClusterBytes = 4 << 20;
inline constexpr int kMostClusterDevices = 100'000;

// Reads the host that a `topology:` names; the path is as it stands in the file.
using ReadOtherFile = std::function<absl::StatusOr<Host>(const std::string& path, const ReadOptions& options)>;

absl::StatusOr<std::vector<Host>> ParseClusterFile(absl::string_view text, absl::string_view file,
                                                   const ReadOptions& options, const ReadOtherFile& read_other);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_CLUSTER_FILE_H_
