// What the data sheets say about a chip, as far as placement needs it.
//
// Link rates are per NVLink and direction, from NCCL's own table (src/graph/topo.h); memory bandwidth and arithmetic
// are the makers' figures, which the step model multiplies by measured efficiencies. A chip that is not in the table
// gets the row of its generation, or Generic.
#ifndef TANDEM_PLACEMENT_TOPOLOGY_CHIP_H_
#define TANDEM_PLACEMENT_TOPOLOGY_CHIP_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace tandem::placement {

// Rates are in MB/s (10^6 bytes), which are bytes per microsecond too.
struct Chip {
  const char* name;      // "A100": what --gpu takes
  int sm;                // compute capability times ten; 0: not CUDA
  int64_t nvlink_mbps;   // one link, one direction; 0: no NVLink
  int nvlinks;           // that the chip has
  int64_t pcie_mbps;     // x16 of its generation, one direction
  int64_t socket_mbps;   // between two sockets of the hosts that it is usually found in
  int64_t memory_mbps;   // device memory, by the data sheet
  int64_t bf16_gflops;   // dense, fp32 accumulate
  int64_t memory_bytes;  // usual size; 0: several
  bool peer_over_pcie;   // may write into its peers' memory over PCIe; GeForce drivers do not allow it
};

// By the name of --gpu or of NVML ("NVIDIA A100-SXM4-80GB"), whatever its case. Null when it is not known.
const Chip* FindChip(absl::string_view name);
// Of NCCL's `sm` attribute. Null when no chip of that generation is known.
const Chip* FindChipBySm(int sm);
// A PCIe Gen4 card without NVLink.
const Chip& GenericChip();
// A share of a host's cores and memory; its "links" are shared memory.
const Chip& CpuChip();
// All names, for messages.
absl::string_view KnownChips();

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_TOPOLOGY_CHIP_H_
