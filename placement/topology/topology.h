// Hosts, their devices, and the links between them, as plain data: what the planner decides on.
//
// A host is a dense matrix of links. What several links share is an edge: the uplink of a PCIe switch, the way between
// sockets, a network card. A ring that crosses an edge n times takes n parts of it, whoever's ring it is.
//
// Values. Nothing here reads files or hardware; readers are in placement/files and in the worker.
#ifndef TANDEM_PLACEMENT_TOPOLOGY_TOPOLOGY_H_
#define TANDEM_PLACEMENT_TOPOLOGY_TOPOLOGY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "placement/topology/chip.h"

namespace tandem::placement {

// Best first. The words of `nvidia-smi topo -m`, with NVLink told from NVSwitch.
enum class PathKind : uint8_t {
  kSelf,
  kSharedMemory,  // CPU devices of one NUMA node
  kNvSwitch,
  kNvLink,  // direct
  kC2c,
  kPix,
  kPxb,
  kPhb,
  kNode,
  kSys,
  kNet,
};

// Where a number came from; what was measured wins over what was read.
enum class Source : uint8_t { kDefault, kFile, kNvml, kMeasured };

struct Measurement {
  int64_t mbps = 0;      // 32 MB messages, one direction; 0 = not measured
  int64_t small_ns = 0;  // one small message
};

struct Link {
  PathKind kind = PathKind::kSys;
  int nvlinks = 0;   // of kNvLink between these two; of kNvSwitch what each has to the switch, the lesser
  int64_t mbps = 0;  // one direction, by the label and the chip; 0 only for kSelf
  Source source = Source::kDefault;
  Measurement measured;
  // What the planner counts with: measured where it was.
  int64_t Rate() const { return measured.mbps > 0 ? measured.mbps : mbps; }
};

struct Device {
  std::string name;  // "host0/3", or "nodes/box/devices/3" in the live system
  const Chip* chip = &GenericChip();
  std::string uuid, pci_bus_id;  // empty when not known
  int numa = -1;                 // -1: not known
  int64_t memory_total = 0;      // bytes
  int64_t memory_used = 0;       // by others: processes that are not ours
};

// A bottleneck that several paths share. `side` says for each device on which side of it it stands, so a hop over PCIe
// (CrossesEdges) crosses the edge when its ends' sides differ; -1: the device's paths never touch it. NVLink and shared
// memory go past all edges, whatever the sides.
struct SharedEdge {
  std::string name;  // "socket link", "uplink of the switch of 0,1"
  int64_t mbps = 0;  // each direction
  std::vector<int8_t> side;
};

struct Host {
  std::string name;
  std::vector<Device> devices;  // in the order of the file; the planner breaks ties by it
  std::vector<Link> links;      // row by row, devices.size() squared, symmetric
  std::vector<SharedEdge> edges;
  int64_t network_mbps = 0;  // all cards together; 0: not known

  int size() const { return static_cast<int>(devices.size()); }
  const Link& link(int a, int b) const { return links[a * devices.size() + b]; }
  Link& link(int a, int b) { return links[a * devices.size() + b]; }
};

inline constexpr int kMostDevicesOfHost = 64;

struct Topology {
  std::vector<Host> hosts;
};

// Whether a hop of this kind takes part in the shared edges: PIX to SYS.
bool CrossesEdges(PathKind kind);

const char* Word(PathKind kind);  // "NV", "NVSwitch", "PIX", ...
// The kind whose word it is; nothing for another, and for "X" and "NET", which no two devices of a host have.
std::optional<PathKind> PathKindOf(absl::string_view word);
const char* Word(Source source);
// "NV4", "PIX": as nvidia-smi writes it.
std::string Label(const Link& link);

// Fills in what follows from kinds, counts and chips: mbps of links that have none, kNvSwitch for NVLinks whose sum in
// a row is more than the chip has (and then for the whole host), and the shared edges: one per PCIe switch (devices
// joined by PIX, and again by PIX or PXB) and one per NUMA node or socket; a single one where there are two of them.
// Readers call it last; calling it again changes nothing. `socket_mbps`: between sockets, where the CPU is known; 0: by
// the chips. REQUIRES: links.size() is devices.size() squared and every device has a chip.
void Complete(Host& host, int64_t socket_mbps = 0);

// The first thing that is not as it must be: sizes, symmetry, ranges.
absl::Status Validate(const Host& host);

// Pairs whose measured bandwidth contradicts the label: a worse class that is at least a fifth faster than a better one
// of the same host, or less than half of what the label promises. One sentence each.
std::vector<std::string> LinkConflicts(const Host& host);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_TOPOLOGY_TOPOLOGY_H_
