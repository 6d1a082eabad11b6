#include "placement/planner/parts.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace tandem::placement {
namespace {

Host Piece(const Host& host, const std::vector<int>& devices) {
  Host piece;
  piece.name = host.name;
  piece.network_mbps = host.network_mbps;
  for (const int d : devices) piece.devices.push_back(host.devices[d]);
  for (const int a : devices) {
    for (const int b : devices) piece.links.push_back(host.link(a, b));
  }
  for (const SharedEdge& edge : host.edges) {
    SharedEdge cut = edge;
    cut.side.clear();
    for (const int d : devices) cut.side.push_back(edge.side[d]);
    piece.edges.push_back(std::move(cut));
  }
  return piece;
}

std::vector<int64_t> MemoryOf(const Host& host) {
  std::vector<int64_t> memory;
  for (const Device& device : host.devices) memory.push_back(device.memory_total);
  return memory;
}

// All that scores depend on.
std::string Signature(const Host& host) {
  std::string text = absl::StrCat(host.network_mbps);
  for (const Device& device : host.devices) {
    absl::StrAppend(&text, "|", device.chip->name, ",", device.numa, ",", device.memory_total);
  }
  for (const Link& link : host.links) {
    absl::StrAppend(&text, ";", static_cast<int>(link.kind), ",", link.nvlinks, ",", link.Rate());
  }
  for (const SharedEdge& edge : host.edges) {
    absl::StrAppend(&text, "#", edge.mbps);
    for (const int8_t side : edge.side) absl::StrAppend(&text, ",", static_cast<int>(side));
  }
  return text;
}

// Devices joined by paths no worse than `worst`.
std::vector<std::vector<int>> Components(const Host& host, const std::vector<int>& devices, PathKind worst) {
  std::vector<std::vector<int>> components;
  std::vector<bool> seen(host.size(), false);
  for (const int first : devices) {
    if (seen[first]) continue;
    std::vector<int> component = {first};
    seen[first] = true;
    for (size_t i = 0; i < component.size(); ++i) {
      for (const int other : devices) {
        if (seen[other] || host.link(component[i], other).kind > worst) continue;
        seen[other] = true;
        component.push_back(other);
      }
    }
    std::sort(component.begin(), component.end());
    components.push_back(std::move(component));
  }
  return components;
}

// Pieces of at most kMostExactDevices: the coarsest components that are small enough, neighbours joined again while
// they fit; in the end by plain count.
void Split(const Host& host, const std::vector<int>& devices, std::vector<std::vector<int>>& out) {
  if (devices.size() <= kMostExactDevices) {
    out.push_back(devices);
    return;
  }
  for (const PathKind worst : {PathKind::kNode, PathKind::kPhb, PathKind::kPxb, PathKind::kPix, PathKind::kNvLink}) {
    const auto components = Components(host, devices, worst);
    if (components.size() < 2) continue;
    std::vector<int> joined;
    for (const auto& component : components) {
      if (joined.size() + component.size() > kMostExactDevices && !joined.empty()) {
        Split(host, joined, out);
        joined.clear();
      }
      joined.insert(joined.end(), component.begin(), component.end());
    }
    std::sort(joined.begin(), joined.end());
    Split(host, joined, out);
    return;
  }
  for (size_t i = 0; i < devices.size(); i += kMostExactDevices) {
    out.emplace_back(devices.begin() + i, devices.begin() + std::min(devices.size(), i + kMostExactDevices));
  }
}

}  // namespace

PartKind::PartKind(Host part) : host(std::move(part)), scores(host), residual(scores, MemoryOf(host)) {}

Parts CutIntoParts(const Topology& topology) {
  Parts result;
  std::map<std::string, PartKind*> known;
  for (size_t h = 0; h < topology.hosts.size(); ++h) {
    const Host& host = topology.hosts[h];
    if (host.size() == 0) continue;
    std::vector<int> all(host.size());
    std::iota(all.begin(), all.end(), 0);
    std::vector<std::vector<int>> pieces;
    Split(host, all, pieces);
    result.split |= pieces.size() > 1;
    for (std::vector<int>& devices : pieces) {
      std::sort(devices.begin(), devices.end());
      Host piece = Piece(host, devices);
      PartKind*& kind = known[Signature(piece)];
      if (kind == nullptr) {
        result.kinds.push_back(std::make_unique<PartKind>(std::move(piece)));
        kind = result.kinds.back().get();
      }
      result.parts.push_back({static_cast<int>(h), std::move(devices), kind});
    }
  }
  return result;
}

}  // namespace tandem::placement
