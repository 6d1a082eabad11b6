// The SGLang gateway's cache_aware policy, as its source and documentation state it (sgl-router, now SMG):
//
//   unbalanced  where max - min > 64 and max > 1.5 * min requests on the way, the group with the fewest takes it
//   match       else the router's own prefix tree is asked; where more than 0.3 of the prompt is found, the group that
//               is known to have that much takes it
//   else        the group with the fewest requests takes it (it was the one with the smallest tree in older versions)
//
// The tree knows what was sent where, not what engines still hold; it is cut back, oldest use first, when a group's
// part of it grows beyond a bound that is far above what engines cache. Theirs is over text, by character; this one
// goes by blocks of 16 tokens.
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "simulate/policy.h"

namespace tandem::simulate {
namespace {

constexpr int64_t kBalanceAbsolute = 64;
constexpr double kBalanceRelative = 1.5;
constexpr double kCacheThreshold = 0.3;
constexpr size_t kMostBlocks = size_t{1} << 20;  // of one group: 2^26 characters at four a token

class SglangCacheAware : public Policy {
 public:
  explicit SglangCacheAware(uint32_t groups) : open_(groups), trees_(groups) {}

  Router::Prefixes prefixes() const override { return Router::Prefixes::kBlocks; }

  uint32_t Choose(const Arrival& arrival) override {
    const auto [least, most] = std::minmax_element(open_.begin(), open_.end());
    uint32_t chosen = static_cast<uint32_t>(least - open_.begin());
    const bool unbalanced = *most - *least > kBalanceAbsolute &&
                            static_cast<double>(*most) > kBalanceRelative * static_cast<double>(*least);
    if (!unbalanced) {
      const Match match = Find(arrival.blocks);
      const double share = static_cast<double>(match.blocks * kPrefixBlockTokens) / arrival.prompt_tokens;
      if (share > kCacheThreshold) chosen = match.group;
    }
    ++open_[chosen];
    Insert(chosen, arrival.blocks);
    return chosen;
  }

  void Ended(uint32_t group, uint32_t) override { --open_[group]; }

 private:
  struct Match {
    size_t blocks = 0;
    uint32_t group = 0;
  };
  using Tree = absl::flat_hash_map<PrefixHash, uint64_t>;  // one group's part of it: when each block was used last

  // The deepest block that any group is known to have, and who used it last.
  Match Find(absl::Span<const PrefixHash> prefix) const {
    Match match;
    for (const PrefixHash& hash : prefix) {
      const auto found = last_user_.find(hash);
      if (found == last_user_.end()) break;
      ++match.blocks;
      match.group = found->second;
    }
    return match;
  }

  void Insert(uint32_t group, absl::Span<const PrefixHash> prefix) {
    Tree& tree = trees_[group];
    // From its end, so that the head of a chain outlives its tail.
    for (auto hash = prefix.rbegin(); hash != prefix.rend(); ++hash) {
      last_user_[*hash] = group;
      tree[*hash] = ++uses_;
    }
    if (tree.size() > kMostBlocks) CutBack(group);
  }

  // Drops the half that was used longest ago. No two uses are equal, so the order of the table does not show.
  void CutBack(uint32_t group) {
    Tree& tree = trees_[group];
    std::vector<uint64_t> uses;
    for (const auto& [hash, use] : tree) uses.push_back(use);
    const auto middle = uses.begin() + static_cast<int64_t>(uses.size() / 2);
    std::nth_element(uses.begin(), middle, uses.end());
    absl::erase_if(tree, [&, oldest_kept = *middle](const auto& entry) {
      if (entry.second >= oldest_kept) return false;
      const auto user = last_user_.find(entry.first);
      if (user != last_user_.end() && user->second == group) last_user_.erase(user);
      return true;
    });
  }

  std::vector<int64_t> open_;
  std::vector<Tree> trees_;
  absl::flat_hash_map<PrefixHash, uint32_t> last_user_;
  uint64_t uses_ = 0;
};

}  // namespace

std::unique_ptr<Policy> MakeSglangCacheAware(uint32_t groups) { return std::make_unique<SglangCacheAware>(groups); }

}  // namespace tandem::simulate
