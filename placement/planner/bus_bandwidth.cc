#include "placement/planner/bus_bandwidth.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "placement/planner/ring_packing.h"

namespace tandem::placement {
namespace {

// What NCCL counts for a network card that does not tell its speed: 10 Gbit/s.
constexpr int64_t kUnknownNetworkMbps = 1250;
// Enough to finish with nine members (8! orders and their beginnings); more members are cut off much earlier, because
// there are thousands of such sets and the walk starts from a good ring.
constexpr int kMostExactMembers = 9;
constexpr int kMostSteps = 1 << 17;
constexpr int kMostStepsOfLarge = 1 << 13;

bool IsNvLink(PathKind kind) { return kind == PathKind::kNvLink || kind == PathKind::kNvSwitch; }

// Whether a hop goes over what SharedEdge describes. NVLinks do not.
bool SharesEdges(PathKind kind) { return kind >= PathKind::kPix; }

HopClass ClassOf(const Host& host, int a, int b) {
  const PathKind kind = host.link(a, b).kind;
  if (kind == PathKind::kSharedMemory) return HopClass::kSharedMemory;
  // CPU devices of two NUMA nodes still meet in memory.
  if (host.devices[a].chip == &CpuChip() && host.devices[b].chip == &CpuChip()) return HopClass::kSharedMemory;
  if (IsNvLink(kind) || kind == PathKind::kC2c) return HopClass::kNvLink;
  return kind == PathKind::kNet ? HopClass::kNet : HopClass::kPci;
}

// The device's index as its name ends with it ("host0/3"), else its place in the host.
std::string IndexOf(const Host& host, int device) {
  const std::string& name = host.devices[device].name;
  const size_t slash = name.rfind('/');
  return slash == std::string::npos || slash + 1 == name.size() ? absl::StrCat(device) : name.substr(slash + 1);
}

std::string Between(const Host& host, int a, int b) {
  const auto [low, high] = std::minmax(a, b);
  return absl::StrCat(Label(host.link(a, b)), " between ", IndexOf(host, low), " and ", IndexOf(host, high));
}

// The ring whose slowest hop is fastest; among those the one with the fewest crossings, then the lowest order. A
// depth-first walk over orders in ascending order, started from a greedy ring and cut where neither can improve.
class MixedRing {
 public:
  MixedRing(const Host& host, absl::Span<const int> members, absl::Span<const int> foreign)
      : host_(host), members_(members), n_(static_cast<int>(members.size())) {
    for (int i = 0; i < n_; ++i) {
      for (int j = 0; j < n_; ++j) {
        if (i == j) continue;
        rate_[i][j] = host.link(members[i], members[j]).Rate();
        shares_[i][j] = SharesEdges(host.link(members[i], members[j]).kind);
      }
    }
    for (size_t e = 0; e < host.edges.size(); ++e) AddEdge(static_cast<int>(e), foreign);
    bound_ = BestThinkable();
  }

  Ring Solve() {
    Greedy();
    path_[0] = 0;
    Walk(1, 1, std::numeric_limits<int64_t>::max(), 0);
    return Describe();
  }

 private:
  struct Edge {
    int index;  // in the host
    int64_t mbps;
    int foreign;
    std::array<int8_t, kMostMembers> side;
    // Every way between its sides is over it: what is on the other side has to be fetched across.
    bool unavoidable;
    int up = 0, down = 0;  // crossings of the walk so far, by direction

    int64_t Share() const { return mbps / std::max(1, std::max(up, down) + foreign); }
  };
  struct Best {
    int64_t mbps = -1;
    int crossings = 0;
    std::array<int, kMostMembers> path = {};
    bool walked = false;  // met by the walk: nothing that comes later has a lower order
  };

  void AddEdge(int index, absl::Span<const int> foreign) {
    const SharedEdge& shared = host_.edges[index];
    Edge edge{.index = index,
              .mbps = shared.mbps,
              .foreign = foreign.empty() ? 0 : foreign[index],
              .side = {},
              .unavoidable = true};
    bool parts = false;
    for (int i = 0; i < n_; ++i) {
      edge.side[i] = shared.side[members_[i]];
      parts |= edge.side[i] >= 0 && edge.side[0] >= 0 && edge.side[i] != edge.side[0];
      edge.unavoidable &= edge.side[i] >= 0;
    }
    if (edge.side[0] < 0) {
      for (int i = 1; i < n_ && !parts; ++i) {
        for (int j = 1; j < i; ++j) parts |= edge.side[i] >= 0 && edge.side[j] >= 0 && edge.side[i] != edge.side[j];
      }
    }
    if (!parts) return;
    for (int i = 0; i < n_; ++i) {
      for (int j = 0; j < i; ++j) edge.unavoidable &= edge.side[i] == edge.side[j] || shares_[i][j];
    }
    edges_.push_back(edge);
  }

  // Every member has two neighbours (at n = 2, one), and what must be crossed is crossed at least once.
  int64_t BestThinkable() const {
    int64_t bound = std::numeric_limits<int64_t>::max();
    for (int i = 0; i < n_; ++i) {
      int64_t first = 0, second = 0;
      for (int j = 0; j < n_; ++j) {
        if (i == j) continue;
        second = std::max(second, std::min(first, rate_[i][j]));
        first = std::max(first, rate_[i][j]);
      }
      bound = std::min(bound, n_ == 2 ? first : second);
    }
    for (const Edge& edge : edges_) {
      if (edge.unavoidable) bound = std::min(bound, edge.mbps / (1 + edge.foreign));
    }
    return bound;
  }

  // Counts the hop's crossings, or takes them back. Returns how many there are.
  int Cross(int from, int to, int by) {
    if (!shares_[from][to]) return 0;
    int crossings = 0;
    for (Edge& edge : edges_) {
      const int a = edge.side[from], b = edge.side[to];
      if (a < 0 || b < 0 || a == b) continue;
      (a < b ? edge.up : edge.down) += by;
      ++crossings;
    }
    return crossings;
  }

  int64_t SharesOfEdges() const {
    int64_t least = std::numeric_limits<int64_t>::max();
    for (const Edge& edge : edges_) {
      if (edge.up + edge.down > 0) least = std::min(least, edge.Share());
    }
    return least;
  }

  // The crossings that are still to come at least: to what is on the other side, and back to the start.
  int CrossingsToCome(int at, uint32_t visited) const {
    int crossings = 0;
    for (const Edge& edge : edges_) {
      if (!edge.unavoidable) continue;
      if (edge.side[at] != edge.side[0]) {
        ++crossings;
        continue;
      }
      for (int i = 1; i < n_; ++i) {
        if ((visited >> i & 1) == 0 && edge.side[i] != edge.side[0]) {
          crossings += 2;
          break;
        }
      }
    }
    return crossings;
  }

  // From each member to the nearest one: the fastest hop, then the fewest crossings, then the lowest.
  void Greedy() {
    Best ring;
    ring.mbps = std::numeric_limits<int64_t>::max();
    uint32_t visited = 1;
    for (int at = 1; at <= n_; ++at) {
      const int from = ring.path[at - 1];
      int next = at == n_ ? 0 : -1;
      int fewest = 0;
      for (int to = 1; to < n_ && at < n_; ++to) {
        if ((visited >> to & 1) != 0) continue;
        const int crossings = Cross(from, to, 0);
        if (next >= 0 &&
            (rate_[from][to] < rate_[from][next] || (rate_[from][to] == rate_[from][next] && crossings >= fewest))) {
          continue;
        }
        next = to;
        fewest = crossings;
      }
      ring.crossings += Cross(from, next, 1);
      ring.mbps = std::min(ring.mbps, rate_[from][next]);
      if (at < n_) ring.path[at] = next;
      visited |= uint32_t{1} << next;
    }
    ring.mbps = std::min(ring.mbps, SharesOfEdges());
    for (Edge& edge : edges_) edge.up = edge.down = 0;
    best_ = ring;
    fewest_ = CrossingsToCome(0, 1);
  }

  bool over() const {
    const int most = n_ <= kMostExactMembers ? kMostSteps : kMostStepsOfLarge;
    return steps_ > most || (best_.walked && best_.mbps == bound_ && best_.crossings == fewest_);
  }

  void Walk(int at, uint32_t visited, int64_t slowest, int crossings) {
    const int from = path_[at - 1];
    for (int to = at == n_ ? 0 : 1; to < (at == n_ ? 1 : n_) && !over(); ++to) {
      if (at < n_ && (visited >> to & 1) != 0) continue;
      // A ring and its reverse are as fast; the one that begins with the lower neighbour is looked at.
      if (n_ > 2 && at == n_ - 1 && to < path_[1]) continue;
      const int64_t hop = std::min(slowest, rate_[from][to]);
      if (hop < best_.mbps) continue;
      ++steps_;
      const int sum = crossings + Cross(from, to, 1);
      const int64_t mbps = std::min(hop, SharesOfEdges());
      if (at == n_) {
        Consider(mbps, sum);
      } else if (mbps >= best_.mbps) {
        const uint32_t now = visited | uint32_t{1} << to;
        const int least = sum + CrossingsToCome(to, now);
        const bool may_win =
            mbps > best_.mbps || least < best_.crossings || (least == best_.crossings && !best_.walked);
        if (may_win) {
          path_[at] = to;
          Walk(at + 1, now, hop, sum);
        }
      }
      Cross(from, to, -1);
    }
  }

  void Consider(int64_t mbps, int crossings) {
    const bool better = mbps > best_.mbps || (mbps == best_.mbps && crossings < best_.crossings);
    const bool equal = mbps == best_.mbps && crossings == best_.crossings;
    if (!better && !(equal && !best_.walked)) return;
    best_ = {.mbps = mbps, .crossings = crossings, .path = path_, .walked = true};
  }

  Ring Describe() {
    Ring ring;
    ring.exact = steps_ <= (n_ <= kMostExactMembers ? kMostSteps : kMostStepsOfLarge) || best_.mbps == bound_;
    ring.mbps = best_.mbps;
    ring.hop = HopClass::kSharedMemory;
    ring.crossings.assign(host_.edges.size(), 0);
    int64_t slowest = std::numeric_limits<int64_t>::max();
    for (int at = 0; at < n_; ++at) {
      const int from = best_.path[at], to = best_.path[(at + 1) % n_];
      ring.order.push_back(members_[from]);
      ring.hop = std::max(ring.hop, ClassOf(host_, members_[from], members_[to]));
      Cross(from, to, 1);
      if (rate_[from][to] >= slowest) continue;
      slowest = rate_[from][to];
      ring.bottleneck = Between(host_, members_[from], members_[to]);
    }
    for (const Edge& edge : edges_) {
      const int own = std::max(edge.up, edge.down);
      ring.crossings[edge.index] = own;
      if (own == 0 || edge.Share() >= slowest) continue;
      slowest = edge.Share();
      ring.bottleneck = host_.edges[edge.index].name;
      if (own + edge.foreign > 1) absl::StrAppend(&ring.bottleneck, " crossed by ", own + edge.foreign, " rings");
    }
    return ring;
  }

  const Host& host_;
  const absl::Span<const int> members_;
  const int n_;
  int64_t rate_[kMostMembers][kMostMembers] = {};
  bool shares_[kMostMembers][kMostMembers] = {};
  absl::InlinedVector<Edge, 8> edges_;  // those with members on both sides
  int64_t bound_ = 0;
  int fewest_ = 0;  // no ring has fewer crossings
  int steps_ = 0;
  std::array<int, kMostMembers> path_ = {};
  Best best_;
};

// "the 3 NVLinks from 0,3 to 4,7".
std::string DescribeCut(const Host& host, const LinkCounts& links, absl::Span<const int> members,
                        const Packing& packing) {
  if (packing.rings < packing.bound) {
    return absl::StrCat("NVLink: ", packing.rings, " rings fit, each link once per direction");
  }
  std::vector<std::string> one, other;
  for (int i = 0; i < links.n; ++i) ((packing.cut >> i & 1) != 0 ? one : other).push_back(IndexOf(host, members[i]));
  if (one.size() > other.size()) std::swap(one, other);
  return absl::StrCat("the ", packing.bound, " NVLinks from ", absl::StrJoin(one, ","), " to ",
                      absl::StrJoin(other, ","));
}

// Rings over direct NVLinks. Links may differ in speed (measured, or cards of two kinds): tried is each speed as the
// common one, with the links that reach it. mbps 0: no ring.
Ring DirectRings(const Host& host, absl::Span<const int> members) {
  const int n = static_cast<int>(members.size());
  absl::InlinedVector<int64_t, 8> rates;  // of one link
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < i; ++j) {
      const Link& link = host.link(members[i], members[j]);
      if (link.kind == PathKind::kNvLink && link.nvlinks > 0) rates.push_back(link.Rate() / link.nvlinks);
    }
  }
  std::sort(rates.begin(), rates.end());
  rates.erase(std::unique(rates.begin(), rates.end()), rates.end());
  Ring best;
  for (const int64_t rate : rates) {
    LinkCounts links{.n = n};
    int least = std::numeric_limits<int>::max();  // links of a member
    for (int i = 0; i < n; ++i) {
      int sum = 0;
      for (int j = 0; j < n; ++j) {
        if (i == j) continue;
        const Link& link = host.link(members[i], members[j]);
        if (link.kind != PathKind::kNvLink || link.nvlinks == 0 || link.Rate() / link.nvlinks < rate) continue;
        links.count[i][j] = static_cast<int16_t>(link.nvlinks);
        sum += link.nvlinks;
      }
      least = std::min(least, sum);
    }
    if (least * rate <= best.mbps) continue;
    const Packing packing = PackRings(links);
    if (packing.rings * rate <= best.mbps) continue;
    best.mbps = packing.rings * rate;
    best.rings = packing.rings;
    best.exact = packing.exact;
    best.bottleneck = DescribeCut(host, links, members, packing);
    best.order.clear();
    for (const int i : packing.order) best.order.push_back(members[i]);
  }
  best.hop = HopClass::kNvLink;
  best.crossings.assign(host.edges.size(), 0);
  return best;
}

Ring SwitchRing(const Host& host, absl::Span<const int> members) {
  Ring ring;
  ring.order.assign(members.begin(), members.end());
  ring.mbps = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t j = 0; j < i; ++j) ring.mbps = std::min(ring.mbps, host.link(members[i], members[j]).Rate());
  }
  ring.bottleneck = "NVSwitch";
  ring.crossings.assign(host.edges.size(), 0);
  return ring;
}

}  // namespace

Ring BestRing(const Host& host, absl::Span<const int> unsorted, absl::Span<const int> foreign) {
  CHECK(!unsorted.empty() && unsorted.size() <= kMostMembers) << unsorted.size() << " members";
  CHECK(foreign.empty() || foreign.size() == host.edges.size())
      << foreign.size() << " counts of crossings, " << host.edges.size() << " edges";
  absl::InlinedVector<int, kMostMembers> members(unsorted.begin(), unsorted.end());
  std::sort(members.begin(), members.end());
  if (members.size() == 1) {
    Ring alone;
    alone.order.assign(members.begin(), members.end());
    alone.crossings.assign(host.edges.size(), 0);
    return alone;
  }
  bool all_switched = true, any_direct = false;
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const PathKind kind = host.link(members[i], members[j]).kind;
      all_switched &= kind == PathKind::kNvSwitch;
      any_direct |= kind == PathKind::kNvLink;
    }
  }
  if (all_switched) return SwitchRing(host, members);
  Ring mixed = MixedRing(host, members, foreign).Solve();
  if (!any_direct || members.size() == 2) return mixed;
  Ring direct = DirectRings(host, members);
  return direct.mbps >= mixed.mbps ? direct : mixed;
}

Ring BestRingAcross(absl::Span<const HostPart> parts) {
  CHECK(!parts.empty());
  if (parts.size() == 1) return BestRing(*parts[0].host, parts[0].members);
  Ring ring;
  ring.hop = HopClass::kNet;
  ring.mbps = std::numeric_limits<int64_t>::max();
  for (const HostPart& part : parts) {
    const Ring own = BestRing(*part.host, part.members);
    ring.order.insert(ring.order.end(), own.order.begin(), own.order.end());
    ring.exact &= own.exact;
    if (part.members.size() > 1 && own.mbps < ring.mbps) {
      ring.mbps = own.mbps;
      ring.bottleneck = absl::StrCat(own.bottleneck, " on ", part.host->name);
    }
    const int64_t network = part.host->network_mbps > 0 ? part.host->network_mbps : kUnknownNetworkMbps;
    if (network < ring.mbps) {
      ring.mbps = network;
      ring.bottleneck = absl::StrCat("network of ", part.host->name);
    }
  }
  return ring;
}

}  // namespace tandem::placement
