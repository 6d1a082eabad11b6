#include "placement/planner/residual.h"

#include <algorithm>

#include "absl/container/btree_set.h"

namespace tandem::placement {
namespace {

// A set below this share of the best bandwidth is not "still formable".
constexpr int kGoodPercent = 80;

void Combine(const std::vector<int>& members, size_t next, int missing, DeviceSet taken, std::vector<DeviceSet>& out) {
  if (missing == 0) {
    out.push_back(taken);
    return;
  }
  for (size_t i = next; i + missing <= members.size(); ++i) {
    Combine(members, i + 1, missing - 1, taken | DeviceSet{1} << members[i], out);
  }
}

}  // namespace

std::vector<DeviceSet> SetsOf(DeviceSet from, int ranks) {
  std::vector<DeviceSet> sets;
  Combine(MembersOf(from), 0, ranks, 0, sets);
  return sets;
}

ResidualValue::ResidualValue(HostScores& scores, const std::vector<int64_t>& memory) {
  const int size = scores.host().size();
  const DeviceSet all = (DeviceSet{1} << size) - 1;
  const absl::btree_set<int64_t> sizes(memory.begin(), memory.end());
  for (const int ranks : {1, 2, 4, 8}) {
    if (ranks > size) break;
    int64_t best = 0, worst = INT64_MAX;
    std::vector<DeviceSet> sets;
    if (ranks > 1) {
      sets = SetsOf(all, ranks);
      for (const DeviceSet set : sets) {
        best = std::max(best, scores.RingOf(set).mbps);
        worst = std::min(worst, scores.RingOf(set).mbps);
      }
    }
    for (const int64_t least : sizes) {
      Shape shape;
      shape.ranks = ranks;
      for (int d = 0; d < size; ++d) {
        if (memory[d] >= least) shape.enough |= DeviceSet{1} << d;
      }
      shape.uniform = ranks == 1 || worst * 100 >= best * kGoodPercent;
      if (!shape.uniform) {
        shape.good.resize(size);
        for (const DeviceSet set : sets) {
          if ((set & ~shape.enough) != 0 || scores.RingOf(set).mbps * 100 < best * kGoodPercent) continue;
          shape.good[LowestOf(set)].push_back(set);
        }
        shape.packed.assign(size_t{1} << size, -1);
      }
      shapes_.push_back(std::move(shape));
    }
  }
}

int ResidualValue::Pack(Shape& shape, DeviceSet free) {
  if (CountOf(free) < shape.ranks) return 0;
  int8_t& known = shape.packed[free];
  if (known >= 0) return known;
  const int lowest = LowestOf(free);
  int most = Pack(shape, free & (free - 1));
  const int bound = CountOf(free) / shape.ranks;
  for (const DeviceSet set : shape.good[lowest]) {
    if (most >= bound) break;
    if ((set & ~free) == 0) most = std::max(most, 1 + Pack(shape, free & ~set));
  }
  return known = static_cast<int8_t>(most);
}

int64_t ResidualValue::Of(DeviceSet free) {
  int64_t value = 0;
  for (Shape& shape : shapes_) {
    const DeviceSet usable = free & shape.enough;
    const int groups = shape.uniform ? CountOf(usable) / shape.ranks : Pack(shape, usable);
    value += int64_t{groups} * shape.ranks;
  }
  return value;
}

}  // namespace tandem::placement
