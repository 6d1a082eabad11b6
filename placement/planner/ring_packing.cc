#include "placement/planner/ring_packing.h"

#include <algorithm>
#include <array>

#include "glog/logging.h"

namespace tandem::placement {
namespace {

// Above this many members only the cuts around one member are looked at: there are 2^n of them.
constexpr int kMostMembersForCuts = 8;
// Of one search: a few milliseconds. All sets of a DGX-1 need less than a hundredth of it.
constexpr int64_t kMostSteps = int64_t{1} << 17;
// What looking at all cuts of eight members costs, in hops tried.
constexpr int64_t kStepsOfCuts = 32;

struct Cut {
  int capacity = 0;
  uint32_t side = 0;
};

// The narrowest way out of a set of members, over the given capacity of each direction.
Cut NarrowestCut(const LinkCounts& arcs) {
  Cut best{.capacity = INT16_MAX, .side = 0};
  const auto consider = [&](uint32_t side, int capacity) {
    if (capacity < best.capacity) best = {capacity, side};
  };
  const uint32_t all = (uint32_t{1} << arcs.n) - 1;
  // Single members first: of equally narrow cuts they are the easiest to understand.
  int out[kMostMembers] = {}, in[kMostMembers] = {};
  for (int i = 0; i < arcs.n; ++i) {
    for (int j = 0; j < arcs.n; ++j) {
      out[i] += arcs.count[i][j];
      in[i] += arcs.count[j][i];
    }
    consider(uint32_t{1} << i, out[i]);
    consider(all & ~(uint32_t{1} << i), in[i]);
  }
  if (arcs.n > kMostMembersForCuts) return best;
  // A set's way out is that of the set without its lowest member, and that member's, less what stays inside now.
  int16_t capacity[1 << kMostMembersForCuts] = {};
  for (uint32_t side = 1; side < all; ++side) {
    const int low = __builtin_ctz(side);
    const uint32_t others = side & (side - 1);
    int sum = capacity[others] + out[low];
    for (uint32_t left = others; left != 0; left &= left - 1) {
      const int other = __builtin_ctz(left);
      sum -= arcs.count[low][other] + arcs.count[other][low];
    }
    capacity[side] = static_cast<int16_t>(sum);
    consider(side, sum);
  }
  return best;
}

// Adds ring after ring, each a depth-first walk from member 0, and backs out of what cannot beat the best so far. Rings
// are taken in ascending order of their hops, so that no set of rings is met twice.
//
// `two_way`: each ring takes its links in both directions and counts twice, and has links on all its hops. A much
// smaller space than one direction at a time, and it holds the optimum of most real machines.
class Packer {
 public:
  Packer(const LinkCounts& links, bool two_way, int target, int at_least)
      : links_(links), n_(links.n), two_way_(two_way), target_(target), best_(at_least), left_(links) {}

  void Run() { Hop(1, false); }

  int best() const { return best_; }
  bool cut_short() const { return steps_ > kMostSteps; }
  const std::vector<int>& first() const { return first_; }

 private:
  // Where each hop leads and through which member (+1; 0: none); in that order of significance.
  using Hops = std::array<int16_t, kMostMembers + 1>;
  static constexpr int kDirect = -1;
  static int16_t Code(int to, int through) { return static_cast<int16_t>(to * 32 + through + 1); }

  bool over() const { return best_ >= target_ || steps_ > kMostSteps; }

  bool Take(int from, int to) {
    if (left_.count[from][to] == 0) return false;
    --left_.count[from][to];
    if (two_way_) --left_.count[to][from];
    return true;
  }
  void PutBack(int from, int to) {
    ++left_.count[from][to];
    if (two_way_) ++left_.count[to][from];
  }

  // Chooses the hop with this number, 1 to n. `tight`: the hops before it are those of the ring before.
  void Hop(int number, bool tight) {
    if (number == n_) return Try(number, 0, tight);
    for (int to = 1; to < n_ && !over(); ++to) {
      if ((visited_ >> to & 1) != 0) continue;
      // A two-way ring is met in both directions; one is enough.
      if (two_way_ && number == n_ - 1 && to < path_[1]) continue;
      Try(number, to, tight);
    }
  }

  void Try(int number, int to, bool tight) {
    const int from = path_[number - 1];
    if (links_.count[from][to] > 0) return TryThrough(number, to, kDirect, tight);
    if (two_way_) return;
    for (int through = 0; through < n_ && !over(); ++through) {
      if (links_.count[from][through] > 0 && links_.count[through][to] > 0) TryThrough(number, to, through, tight);
    }
  }

  void TryThrough(int number, int to, int through, bool tight) {
    ++steps_;
    const int16_t code = Code(to, through);
    if (tight && code < previous_[number]) return;
    const int from = path_[number - 1];
    if (!Take(from, through == kDirect ? to : through)) return;
    if (through == kDirect || Take(through, to)) {
      path_[number] = to;
      hops_[number] = code;
      visited_ |= uint32_t{1} << to;
      if (number == n_) {
        Complete();
      } else {
        Hop(number + 1, tight && code == previous_[number]);
      }
      if (to != 0) visited_ &= ~(uint32_t{1} << to);
      if (through != kDirect) PutBack(through, to);
    }
    PutBack(from, through == kDirect ? to : through);
  }

  void Complete() {
    const int each = two_way_ ? 2 : 1;
    if (first_.empty()) first_.assign(path_.begin(), path_.begin() + n_);
    rings_ += each;
    best_ = std::max(best_, rings_);
    steps_ += kStepsOfCuts;
    const int more = NarrowestCut(left_).capacity / each * each;
    if (!over() && rings_ + more > best_) {
      // The walk that is under way is this ring's; the next one starts afresh.
      const Hops previous = previous_, hops = hops_;
      const auto path = path_;
      const uint32_t visited = visited_;
      previous_ = hops_;
      visited_ = 1;
      Hop(1, true);
      previous_ = previous;
      hops_ = hops;
      path_ = path;
      visited_ = visited;
    }
    rings_ -= each;
  }

  const LinkCounts& links_;
  const int n_;
  const bool two_way_;
  const int target_;
  int best_;
  LinkCounts left_;
  int rings_ = 0;
  int64_t steps_ = 0;
  std::vector<int> first_;
  uint32_t visited_ = 1;
  std::array<int, kMostMembers + 1> path_ = {};
  Hops hops_ = {}, previous_ = {};
};

// Every pair has the same number of links, and the rings that use all of them are known to exist: Hamiltonian
// decompositions of the complete multigraph (Walecki) and, with an odd number of links between an even number of
// members, of the complete digraph (Tillson: all but 4 and 6).
bool UsesEveryLink(const LinkCounts& links) {
  const int k = links.count[0][1];
  for (int i = 0; i < links.n; ++i) {
    for (int j = 0; j < links.n; ++j) {
      if (i != j && links.count[i][j] != k) return false;
    }
  }
  return links.n % 2 == 1 || k % 2 == 0 || links.n >= 8;
}

}  // namespace

Packing PackRings(const LinkCounts& links) {
  CHECK(links.n >= 3 && links.n <= kMostMembers) << links.n;
  const Cut cut = NarrowestCut(links);
  Packing packing{.bound = cut.capacity, .cut = cut.side};
  if (cut.capacity == 0) return packing;
  if (UsesEveryLink(links)) {
    packing.rings = cut.capacity;
    for (int i = 0; i < links.n; ++i) packing.order.push_back(i);
    return packing;
  }
  Packer two_way(links, true, cut.capacity / 2 * 2, 0);
  two_way.Run();
  packing.rings = two_way.best();
  packing.order = two_way.first();
  if (packing.rings == packing.bound) return packing;
  Packer one_way(links, false, cut.capacity, packing.rings);
  one_way.Run();
  packing.rings = one_way.best();
  if (packing.order.empty()) packing.order = one_way.first();
  packing.exact = packing.rings == packing.bound || !one_way.cut_short();
  return packing;
}

}  // namespace tandem::placement
