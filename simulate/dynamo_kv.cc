// NVIDIA Dynamo's KV router with its defaults, as its documentation states it (docs/components/router): the group with
// the least
//
//   cost = 1.0 * max(prefill blocks under way + blocks of the prompt - blocks that it has cached, 0)
//          + blocks of requests under way + blocks of the prompt
//
// takes the request; equals go to the lowest, temperature 0. What is cached is known exactly, from the engines' word on
// stored and evicted blocks. A prompt is under way in prefill, by what of it was not cached when it was sent, until its
// first token, and as a request until its end. No queue in the router, no busy threshold, no rejection.
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "simulate/policy.h"

namespace tandem::simulate {
namespace {

constexpr double kPrefillLoadScale = 1.0;

class DynamoKv : public Policy {
 public:
  explicit DynamoKv(uint32_t groups) : loads_(groups), overlap_(groups) {}

  Router::Prefixes prefixes() const override { return Router::Prefixes::kBlocks; }

  uint32_t Choose(const Arrival& arrival) override {
    const int64_t blocks = (int64_t{arrival.prompt_tokens} + kPrefixBlockTokens - 1) / int64_t{kPrefixBlockTokens};
    FindOverlap(arrival.blocks);
    uint32_t best = 0;
    double least = 0;
    for (uint32_t g = 0; g < loads_.size(); ++g) {
      const int64_t prefill = std::max<int64_t>(loads_[g].prefill_blocks + blocks - overlap_[g], 0);
      const double cost =
          kPrefillLoadScale * static_cast<double>(prefill) + static_cast<double>(loads_[g].active_blocks + blocks);
      if (g == 0 || cost < least) best = g, least = cost;
    }
    const Open open{.prefill_blocks = std::max<int64_t>(blocks - overlap_[best], 0), .active_blocks = blocks};
    loads_[best].prefill_blocks += open.prefill_blocks;
    loads_[best].active_blocks += open.active_blocks;
    open_.insert_or_assign(arrival.request, open);
    return best;
  }

  void FirstToken(uint32_t group, uint32_t request) override { EndPrefill(group, open_.at(request)); }

  void Ended(uint32_t group, uint32_t request) override {
    Open& open = open_.at(request);
    EndPrefill(group, open);
    loads_[group].active_blocks -= open.active_blocks;
    open_.erase(request);
  }

  void CacheChanged(uint32_t group, const worker::BlockAllocator::Changes& changes) override {
    for (const PrefixHash& hash : changes.stored) holders_[hash].push_back(group);
    for (const PrefixHash& hash : changes.evicted) {
      const auto found = holders_.find(hash);
      if (found == holders_.end()) continue;
      auto& groups = found->second;
      groups.erase(std::remove(groups.begin(), groups.end(), group), groups.end());
      if (groups.empty()) holders_.erase(found);
    }
  }

 private:
  struct Load {
    int64_t prefill_blocks = 0, active_blocks = 0;
  };
  using Open = Load;  // one request's part of it

  void EndPrefill(uint32_t group, Open& open) {
    loads_[group].prefill_blocks -= open.prefill_blocks;
    open.prefill_blocks = 0;
  }

  // Leading blocks of the prompt that each group has.
  void FindOverlap(absl::Span<const PrefixHash> prefix) {
    std::fill(overlap_.begin(), overlap_.end(), 0);
    for (size_t depth = 0; depth < prefix.size(); ++depth) {
      const auto found = holders_.find(prefix[depth]);
      if (found == holders_.end()) break;
      for (const uint32_t group : found->second) {
        if (overlap_[group] == static_cast<int64_t>(depth)) ++overlap_[group];
      }
    }
  }

  std::vector<Load> loads_;
  std::vector<int64_t> overlap_;
  absl::flat_hash_map<uint32_t, Open> open_;  // by request
  absl::flat_hash_map<PrefixHash, absl::InlinedVector<uint32_t, 2>> holders_;
};

}  // namespace

std::unique_ptr<Policy> MakeDynamoKv(uint32_t groups) { return std::make_unique<DynamoKv>(groups); }

}  // namespace tandem::simulate
