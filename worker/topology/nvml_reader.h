// The GPUs of this host and the links between them, as NVIDIA's management library tells them.
//
// The library is loaded at run time, so this builds and runs where there is none. A function that an older driver has
// not, or a device that does not answer, costs the fact that it would have told and leaves a sentence in `notes`; what
// is left is still true. Labels only: whether a link keeps what its label promises, a probe says.
#ifndef TANDEM_WORKER_TOPOLOGY_NVML_READER_H_
#define TANDEM_WORKER_TOPOLOGY_NVML_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "placement/topology/topology.h"

namespace tandem::worker {

struct NvmlDevice {
  std::string name, uuid;
  std::string bus_id;        // "00000000:3b:00.0", lower case: the one key that is the same in every library
  int64_t memory_total = 0;  // bytes; 0: not told
  int64_t memory_free = 0;   // bytes
  int numa = -1;             // of the CPUs near it; -1: not told
  bool mig = false;          // cut into slices, which reach no peer
};

struct NvmlLink {
  int a = 0, b = 0;  // indexes of devices, a < b
  placement::PathKind kind = placement::PathKind::kSys;
  placement::PathKind pcie = placement::PathKind::kSys;  // the way past all NVLinks
  int nvlinks = 0;  // of kNvLink between these two; of kNvSwitch what each has to the switch, the lesser
  std::optional<bool> peer_access;  // may read and write each other's memory; unset: not told
};

struct NvmlFacts {
  std::vector<NvmlDevice> devices;  // in NVML's order
  std::vector<NvmlLink> links;      // every pair
  std::vector<std::string> notes;   // what could not be read, or looks wrong; one sentence each
};

// NOT_FOUND without the library, FAILED_PRECONDITION where it is no NVML or finds no driver. A host whose driver sees
// no device is OK and empty.
absl::StatusOr<NvmlFacts> ReadNvml(const std::string& library = "libnvidia-ml.so.1");

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_TOPOLOGY_NVML_READER_H_
