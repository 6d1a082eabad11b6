#include "placement/topology/topology.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace tandem::placement {
namespace {

constexpr int kMostNvLinks = 36;
constexpr int64_t kMostMbps = 1'000'000'000;
constexpr int kMostNuma = 4095;
// What NCCL takes for a card that does not tell its speed: 10 Gbit/s.
constexpr int64_t kUnknownNetworkMbps = 1'250;

bool IsNvLink(PathKind kind) { return kind == PathKind::kNvLink || kind == PathKind::kNvSwitch; }

// A switch shows every device all links of each other one; a mesh divides them. One row that has more than the chip's
// links is proof, and a host is never both.
void TellSwitchFromMesh(Host& host) {
  bool is_switch = false;
  for (int a = 0; a < host.size(); ++a) {
    int sum = 0;
    for (int b = 0; b < host.size(); ++b) {
      const Link& link = host.link(a, b);
      if (link.kind == PathKind::kNvSwitch) is_switch = true;
      // A link whose rate is known already is not one of the chip's: xGMI, or a second call.
      if (link.kind == PathKind::kNvLink && link.mbps == 0) sum += link.nvlinks;
    }
    if (host.devices[a].chip->nvlinks > 0 && sum > host.devices[a].chip->nvlinks) is_switch = true;
  }
  if (!is_switch) return;
  for (Link& link : host.links) {
    if (link.kind == PathKind::kNvLink) link.kind = PathKind::kNvSwitch;
  }
}

int64_t Rate(const Host& host, int a, int b, int64_t socket_mbps) {
  const Device& from = host.devices[a];
  const Device& to = host.devices[b];
  const Link& link = host.link(a, b);
  const int64_t pcie = std::min(from.chip->pcie_mbps, to.chip->pcie_mbps);
  switch (link.kind) {
    case PathKind::kSelf:
      return 0;
    case PathKind::kNvSwitch:
    case PathKind::kNvLink:
      return link.nvlinks * std::min(from.chip->nvlink_mbps, to.chip->nvlink_mbps);
    case PathKind::kSharedMemory:
    case PathKind::kC2c:
    case PathKind::kPix:
    case PathKind::kPxb:
    case PathKind::kPhb:
    case PathKind::kNode:
      return pcie;
    case PathKind::kSys:
      // Virtual machines and access control show SYS within one node too; the data stay there all the same.
      if (from.numa >= 0 && from.numa == to.numa) return pcie;
      return std::min(pcie, socket_mbps);
    case PathKind::kNet:
      return host.network_mbps > 0 ? host.network_mbps : kUnknownNetworkMbps;
  }
  LOG(FATAL) << "path kind " << static_cast<int>(link.kind);
}

// Which component each device is in, by the lowest device of it, where `joined` says which links count.
template <typename Joined>
std::vector<int> Components(const Host& host, Joined joined) {
  std::vector<int> component(host.size());
  std::iota(component.begin(), component.end(), 0);
  for (int a = 0; a < host.size(); ++a) {
    for (int b = 0; b < a; ++b) {
      if (!joined(host.link(a, b).kind) || component[a] == component[b]) continue;
      const int low = std::min(component[a], component[b]), high = std::max(component[a], component[b]);
      std::replace(component.begin(), component.end(), high, low);
    }
  }
  return component;
}

// The distinct values of `group`, in order of first appearance.
std::vector<int> Distinct(const std::vector<int>& group) {
  std::vector<int> distinct;
  for (const int value : group) {
    if (std::find(distinct.begin(), distinct.end(), value) == distinct.end()) distinct.push_back(value);
  }
  return distinct;
}

SharedEdge EdgeAround(const std::vector<int>& group, int inside, std::string name, int64_t mbps) {
  SharedEdge edge{std::move(name), mbps, {}};
  for (const int value : group) edge.side.push_back(value == inside ? 1 : 0);
  return edge;
}

std::vector<int> Members(const std::vector<int>& group, int value) {
  std::vector<int> members;
  for (int i = 0; i < static_cast<int>(group.size()); ++i) {
    if (group[i] == value) members.push_back(i);
  }
  return members;
}

// The uplinks of one level of PCIe switches. As wide as the widest path inside: a card's own lanes and the uplink are
// of one kind in all boxes that we know.
void AddUplinks(Host& host, const std::vector<int>& component) {
  for (const int root : Distinct(component)) {
    const std::vector<int> members = Members(component, root);
    if (members.size() < 2 || static_cast<int>(members.size()) == host.size()) continue;
    int64_t mbps = 0;
    for (const int a : members) {
      for (const int b : members) {
        const PathKind kind = host.link(a, b).kind;
        if (kind == PathKind::kPix || kind == PathKind::kPxb) mbps = std::max(mbps, host.link(a, b).mbps);
      }
    }
    SharedEdge edge =
        EdgeAround(component, root, absl::StrCat("uplink of the switch of ", absl::StrJoin(members, ",")), mbps);
    const bool known = std::any_of(host.edges.begin(), host.edges.end(),
                                   [&](const SharedEdge& other) { return other.side == edge.side; });
    if (!known) host.edges.push_back(std::move(edge));
  }
}

void AddSocketLinks(Host& host, int64_t socket_mbps) {
  const bool numa_known =
      std::all_of(host.devices.begin(), host.devices.end(), [](const Device& device) { return device.numa >= 0; });
  std::vector<int> node(host.size());
  if (numa_known) {
    for (int i = 0; i < host.size(); ++i) node[i] = host.devices[i].numa;
  } else {
    node = Components(host, [](PathKind kind) { return CrossesEdges(kind) && kind != PathKind::kSys; });
  }
  const std::vector<int> nodes = Distinct(node);
  // As many groups as devices, and none of them known to be a node: the file says nothing about sockets.
  if (nodes.size() < 2 || (!numa_known && nodes.size() == node.size())) return;
  if (nodes.size() == 2) {
    host.edges.push_back(EdgeAround(node, nodes[1], "socket link", socket_mbps));
    return;
  }
  for (const int value : nodes) {
    host.edges.push_back(EdgeAround(
        node, value, absl::StrCat("socket link of ", absl::StrJoin(Members(node, value), ",")), socket_mbps));
  }
}

std::string Pair(const Host& host, int a, int b) {
  const auto name = [&](int i) {
    return host.devices[i].name.empty() ? absl::StrCat("device ", i) : host.devices[i].name;
  };
  return absl::StrCat(name(a), " and ", name(b));
}

std::string Gigabytes(int64_t mbps) { return absl::StrFormat("%.1f GB/s", mbps / 1000.0); }

}  // namespace

const char* Word(PathKind kind) {
  switch (kind) {
    case PathKind::kSelf:
      return "X";
    case PathKind::kSharedMemory:
      return "SHM";
    case PathKind::kNvSwitch:
      return "NVSwitch";
    case PathKind::kNvLink:
      return "NV";
    case PathKind::kC2c:
      return "C2C";
    case PathKind::kPix:
      return "PIX";
    case PathKind::kPxb:
      return "PXB";
    case PathKind::kPhb:
      return "PHB";
    case PathKind::kNode:
      return "NODE";
    case PathKind::kSys:
      return "SYS";
    case PathKind::kNet:
      return "NET";
  }
  LOG(FATAL) << "path kind " << static_cast<int>(kind);
}

std::optional<PathKind> PathKindOf(absl::string_view word) {
  for (PathKind kind : {PathKind::kSharedMemory, PathKind::kNvSwitch, PathKind::kNvLink, PathKind::kC2c, PathKind::kPix,
                        PathKind::kPxb, PathKind::kPhb, PathKind::kNode, PathKind::kSys}) {
    if (word == Word(kind)) return kind;
  }
  return std::nullopt;
}

const char* Word(Source source) {
  switch (source) {
    case Source::kDefault:
      return "default";
    case Source::kFile:
      return "file";
    case Source::kNvml:
      return "NVML";
    case Source::kMeasured:
      return "measured";
  }
  LOG(FATAL) << "source " << static_cast<int>(source);
}

std::string Label(const Link& link) {
  return IsNvLink(link.kind) ? absl::StrCat("NV", link.nvlinks) : std::string(Word(link.kind));
}

bool CrossesEdges(PathKind kind) {
  switch (kind) {
    case PathKind::kPix:
    case PathKind::kPxb:
    case PathKind::kPhb:
    case PathKind::kNode:
    case PathKind::kSys:
      return true;
    default:
      return false;
  }
}

void Complete(Host& host, int64_t socket_mbps) {
  CHECK_EQ(host.links.size(), host.devices.size() * host.devices.size()) << host.name;
  if (host.devices.empty()) return;
  if (socket_mbps <= 0) {
    socket_mbps = host.devices[0].chip->socket_mbps;
    for (const Device& device : host.devices) socket_mbps = std::min(socket_mbps, device.chip->socket_mbps);
  }
  TellSwitchFromMesh(host);
  for (int a = 0; a < host.size(); ++a) {
    for (int b = 0; b < host.size(); ++b) {
      Link& link = host.link(a, b);
      if (link.kind == PathKind::kNvSwitch && link.nvlinks == 0) {
        link.nvlinks = std::min(host.devices[a].chip->nvlinks, host.devices[b].chip->nvlinks);
      }
      if (link.mbps == 0) link.mbps = Rate(host, a, b, socket_mbps);
    }
  }
  host.edges.clear();
  // Two levels: PIX is one switch, PXB a tree of them.
  AddUplinks(host, Components(host, [](PathKind kind) { return kind == PathKind::kPix; }));
  AddUplinks(host, Components(host, [](PathKind kind) { return kind == PathKind::kPix || kind == PathKind::kPxb; }));
  AddSocketLinks(host, socket_mbps);
}

absl::Status Validate(const Host& host) {
  const auto bad = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat("host ", host.name.empty() ? "?" : host.name, ": ", what...));
  };
  const int n = host.size();
  if (n == 0) return bad("it has no devices");
  if (n > kMostDevicesOfHost) return bad("it has ", n, " devices, at most ", kMostDevicesOfHost, " can be planned");
  if (host.links.size() != static_cast<size_t>(n) * n) {
    return bad("it has ", host.links.size(), " links for ", n, " devices; each pair needs one, both ways");
  }
  if (host.network_mbps < 0) return bad("its network has ", host.network_mbps, " MB/s");
  for (int i = 0; i < n; ++i) {
    const Device& device = host.devices[i];
    if (device.chip == nullptr) return bad("device ", i, " has no chip");
    if (device.numa < -1 || device.numa > kMostNuma) return bad("device ", i, " is on NUMA node ", device.numa);
    if (device.memory_total < 0 || device.memory_used < 0) return bad("device ", i, " has negative memory");
    for (int j = 0; j < i; ++j) {
      const Device& other = host.devices[j];
      if (!device.name.empty() && device.name == other.name) return bad("two devices have the name ", device.name);
      if (!device.uuid.empty() && device.uuid == other.uuid) return bad("two devices have the UUID ", device.uuid);
      if (!device.pci_bus_id.empty() && device.pci_bus_id == other.pci_bus_id) {
        return bad("two devices have the PCI address ", device.pci_bus_id);
      }
    }
  }
  for (int a = 0; a < n; ++a) {
    for (int b = 0; b < n; ++b) {
      const Link& link = host.link(a, b);
      const Link& back = host.link(b, a);
      if ((link.kind == PathKind::kSelf) != (a == b)) {
        return bad("the link between ", a, " and ", b, " is ", Word(link.kind));
      }
      if (link.nvlinks < 0 || link.nvlinks > kMostNvLinks) {
        return bad("NV", link.nvlinks, " between ", a, " and ", b, "; a chip has 1 to ", kMostNvLinks, " links");
      }
      if (IsNvLink(link.kind) && (link.nvlinks == 0 || link.mbps == 0)) {
        return bad("NVLink between ", a, " (", host.devices[a].chip->name, ") and ", b, " (",
                   host.devices[b].chip->name, "), but ",
                   host.devices[host.devices[a].chip->nvlinks == 0 ? a : b].chip->name, " has none");
      }
      if (link.kind != back.kind || link.nvlinks != back.nvlinks || link.mbps != back.mbps) {
        return bad("the link from ", a, " to ", b, " is ", Label(link), " (", link.mbps, " MB/s), the one back ",
                   Label(back), " (", back.mbps, " MB/s)");
      }
      if (a != b && (link.mbps < 1 || link.mbps > kMostMbps)) {
        return bad("the link between ", a, " and ", b, " has ", link.mbps, " MB/s");
      }
      if (link.measured.mbps < 0 || link.measured.mbps > kMostMbps || link.measured.small_ns < 0) {
        return bad("the link between ", a, " and ", b, " was measured at ", link.measured.mbps, " MB/s and ",
                   link.measured.small_ns, " ns");
      }
    }
  }
  for (const SharedEdge& edge : host.edges) {
    if (edge.mbps < 1 || edge.mbps > kMostMbps) return bad(edge.name, " has ", edge.mbps, " MB/s");
    if (edge.side.size() != static_cast<size_t>(n)) {
      return bad(edge.name, " has sides for ", edge.side.size(), " of ", n, " devices");
    }
    for (const int8_t side : edge.side) {
      if (side < -1 || side > 1) return bad(edge.name, " has a side ", static_cast<int>(side));
    }
  }
  return absl::OkStatus();
}

std::vector<std::string> LinkConflicts(const Host& host) {
  std::vector<std::string> conflicts;
  for (int a = 0; a < host.size(); ++a) {
    for (int b = a + 1; b < host.size(); ++b) {
      const Link& link = host.link(a, b);
      const int64_t measured = link.measured.mbps;
      if (measured <= 0) continue;
      if (measured < link.mbps / 2) {
        conflicts.push_back(absl::StrCat(Pair(host, a, b), ": ", Label(link), " promises ", Gigabytes(link.mbps),
                                         ", measured were ", Gigabytes(measured)));
      }
      // The slowest pair of a better class is the one that shames the label most.
      const Link* slowest = nullptr;
      std::string slowest_pair;
      for (int c = 0; c < host.size(); ++c) {
        for (int d = c + 1; d < host.size(); ++d) {
          const Link& other = host.link(c, d);
          if (other.measured.mbps <= 0 || other.kind >= link.kind) continue;
          if (slowest == nullptr || other.measured.mbps < slowest->measured.mbps) {
            slowest = &other;
            slowest_pair = Pair(host, c, d);
          }
        }
      }
      if (slowest != nullptr && measured * 5 >= slowest->measured.mbps * 6) {
        conflicts.push_back(absl::StrCat(Pair(host, a, b), ": ", Label(link), " was measured at ", Gigabytes(measured),
                                         ", faster than the ", Label(*slowest), " of ", slowest_pair, " at ",
                                         Gigabytes(slowest->measured.mbps)));
      }
    }
  }
  return conflicts;
}

}  // namespace tandem::placement
