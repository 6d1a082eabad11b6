#include "placement/planner/host_scores.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace tandem::placement {
namespace {

bool SameLink(const Link& a, const Link& b) {
  return a.kind == b.kind && a.nvlinks == b.nvlinks && a.Rate() == b.Rate();
}

bool Interchangeable(const Host& host, int a, int b) {
  const Device& da = host.devices[a];
  const Device& db = host.devices[b];
  if (da.chip != db.chip || da.numa != db.numa) return false;
  for (const SharedEdge& edge : host.edges) {
    if (edge.side[a] != edge.side[b]) return false;
  }
  for (int x = 0; x < host.size(); ++x) {
    if (x != a && x != b && !SameLink(host.link(a, x), host.link(b, x))) return false;
  }
  return true;
}

}  // namespace

std::vector<int> MembersOf(DeviceSet set) {
  std::vector<int> members;
  for (; set != 0; set &= set - 1) members.push_back(LowestOf(set));
  return members;
}

HostScores::HostScores(const Host& host) : host_(host), kinds_(host.size(), -1) {
  CHECK_LE(host.size(), kMostExactDevices);
  int kinds = 0;
  for (int a = 0; a < host.size(); ++a) {
    if (kinds_[a] >= 0) continue;
    kinds_[a] = kinds;
    for (int b = a + 1; b < host.size(); ++b) {
      // All members of a kind must have equal links among each other too, or which of them would matter.
      const auto alike = [&](int b) {
        for (int c = a; c < b; ++c) {
          if (kinds_[c] != kinds) continue;
          if (!Interchangeable(host, c, b)) return false;
          for (int d = c + 1; d < b; ++d) {
            if (kinds_[d] == kinds && !SameLink(host.link(c, d), host.link(c, b))) return false;
          }
        }
        return true;
      };
      if (kinds_[b] < 0 && alike(b)) kinds_[b] = kinds;
    }
    ++kinds;
  }
}

uint64_t HostScores::KeyOf(DeviceSet set) const {
  uint64_t key =
      0;  // 4 bits for each of at most 16 kinds; a kind of 16 has no other beside it, and wraps to its neighbour's
  for (; set != 0; set &= set - 1) key += uint64_t{1} << (4 * kinds_[LowestOf(set)]);
  return key;
}

HostScores::Score& HostScores::ScoreOf(DeviceSet set) {
  Score& score = scores_[KeyOf(set)];
  if (score.ring.order.empty()) score.ring = BestRing(host_, MembersOf(set));
  return score;
}

const Ring& HostScores::RingOf(DeviceSet set) { return ScoreOf(set).ring; }

Ring HostScores::OrderedRingOf(DeviceSet set, absl::Span<const int> foreign) const {
  return BestRing(host_, MembersOf(set), foreign);
}

int64_t HostScores::Cost(DeviceSet set, const Workload& workload) {
  const int ranks = CountOf(set);
  if (ranks <= 1) return 0;
  Score& score = ScoreOf(set);
  for (const auto& [known, cost] : score.costs) {
    if (known == workload) return cost;
  }
  const int64_t cost = CommunicationNsPerToken(score.ring, ranks, workload);
  score.costs.push_back({workload, cost});
  return cost;
}

int64_t HostScores::CostBeside(DeviceSet set, const Workload& workload, absl::Span<const int> foreign) {
  if (CountOf(set) <= 1) return 0;
  if (std::all_of(foreign.begin(), foreign.end(), [](int n) { return n == 0; })) return Cost(set, workload);
  auto& [cost, known] = beside_[absl::StrCat(set, ":", absl::StrJoin(foreign, ","))];
  if (cost == 0 || !(known == workload)) {
    cost = CommunicationNsPerToken(OrderedRingOf(set, foreign), CountOf(set), workload);
    known = workload;
  }
  return cost;
}

int HostScores::NumaCrossings(DeviceSet set) const {
  int crossings = 0;
  const std::vector<int> members = MembersOf(set);
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t j = i + 1; j < members.size(); ++j) {
      crossings += host_.devices[members[i]].numa != host_.devices[members[j]].numa;
    }
  }
  return crossings;
}

}  // namespace tandem::placement
