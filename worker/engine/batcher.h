// A Batcher decides what runs in the next step of a group, and keeps the account of its requests and blocks (DESIGN 2).
//
// A step is filled in this order, until it holds max_batch_tokens or is expected to take the step budget:
//   1. one token of every sequence that generates: a running stream is never held up by a new prompt;
//   2. the next piece of prompts that are under way;
//   3. waiting requests, by priority, then arrival, as long as a slot and blocks for all their tokens are free. The
//      first that does not fit ends the search, so a large request is not overtaken for ever.
// At least kLeastPrefill tokens of a prompt go into every step, so that prompts advance however short the budget is.
//
// A sequence that grows into a new block while none is free preempts the youngest of the lowest priority, perhaps
// itself: the victim's blocks are freed, it waits again in its old place, and its tokens are computed again. As draws
// depend on the token's index only, and results on the sequence only, its stream goes on as if nothing had happened.
// A request that could not finish even with the whole pool to itself is refused when it comes, so somebody can always
// go on.
//
// With the prefix cache on, a request begins behind the full blocks that the pool still holds of its prefix. Its last
// token is always computed, because its logits are wanted.
//
// Pure: time, costs and sampled tokens are handed in. After every call but Plan, the account is settled; between
// Plan and Commit only these two may be called. Belongs to the engine thread of rank 0.
#ifndef TANDEM_WORKER_ENGINE_BATCHER_H_
#define TANDEM_WORKER_ENGINE_BATCHER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/engine/request.h"
#include "worker/engine/sampler.h"
#include "worker/engine/sequence.h"
#include "worker/engine/step_cost.h"
#include "worker/engine/step_plan.h"
#include "worker/engine/update.h"
#include "worker/kv/block_allocator.h"

namespace tandem::worker {

struct BatcherLimits {
  uint32_t max_sequences = 1;     // running at once
  uint32_t max_batch_tokens = 1;  // of one step; >= max_sequences
  int32_t max_model_len = 1;      // prompt and output together
  uint32_t max_waiting = 64;      // beyond those that can run: the scheduler queues, not the engine (DESIGN 16)
  int64_t step_budget_us = 0;     // 0: none
  bool prefix_cache = true;
  bool report_all_blocks = false;  // of the cache, not its landmarks alone: for a reader who looks closer
  bool whole_prompts = false;      // an encoder: a prompt goes into a step whole or not at all, and the step ends it
};

class Batcher {
 public:
  static constexpr uint32_t kLeastPrefill = 16;

  Batcher(const BatcherLimits& limits, int32_t num_blocks, std::vector<TokenId> eos_ids);

  // Puts `request` behind the waiting ones. One that can not run ends at once, by an update; one whose known output
  // already ends it, too.
  // `image`: of an encoder, the picture that its prompt stands for.
  // REQUIRES: token ids are in the vocabulary; no request of this id is here.
  void Add(std::shared_ptr<const Request> request, std::vector<uint8_t> image = {});

  // Ends a request, waiting or running. False if it is not here.
  bool Abort(const AttemptId& id, absl::string_view reason);
  void AbortAll(absl::string_view reason);

  // Ends what is past its deadline.
  void Expire(SteadyTime now);

  // The next step, without group and number; nothing if nobody has anything to compute.
  std::optional<StepPlan> Plan(const StepCost& cost);

  // The sequences of the last plan whose logits are wanted, in the order of its entries.
  absl::Span<Sequence* const> sampled() const { return sampled_; }

  // The tokens that may not be chosen for `sequence` now.
  absl::Span<const TokenId> Forbidden(const Sequence& sequence);

  // Settles the last plan: it was computed, and these are the tokens of sampled().
  void Commit(absl::Span<const SampledToken> tokens);

  // The same of an encoder: every sequence of the plan ends with its part of `vectors`.
  // REQUIRES: whole_prompts; as many parts of equal size as sampled().
  void CommitVectors(absl::Span<const float> vectors);

  std::vector<RequestUpdate> TakeUpdates();
  BlockAllocator::Changes TakeCacheChanges() { return pool_.TakeChanges(); }
  BlockAllocator::Changes TakeWholeCache() { return pool_.TakeWhole(); }

  uint32_t running() const { return static_cast<uint32_t>(running_.size()); }
  uint32_t waiting() const { return static_cast<uint32_t>(waiting_.size()); }
  bool idle() const { return running_.empty() && waiting_.empty(); }
  bool has(const AttemptId& id) const { return sequences_.contains(id); }
  int32_t free_blocks() const { return pool_.free_blocks(); }
  int32_t cached_blocks() const { return pool_.cached_blocks(); }
  uint64_t preemptions() const { return preemptions_; }

  // OK, or what does not add up. For tests.
  absl::Status CheckInvariants() const;

 private:
  // Highest priority first, then the oldest.
  struct Order {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return std::tuple(-int64_t{a->request->priority}, a->arrival) <
             std::tuple(-int64_t{b->request->priority}, b->arrival);
    }
  };
  using Queue = std::set<Sequence*, Order>;

  absl::Status CheckFits(const Request& request) const;
  std::optional<Ended> EndedBy(const Sequence& sequence, TokenId last) const;

  bool GrowOrPreempt(Sequence& sequence);
  bool Admit(Sequence& sequence);
  void Schedule(Sequence& sequence, uint32_t count, StepPlan& plan);
  const BlockHash& HashOf(Sequence& sequence, int32_t block);
  void PublishFullBlocks(Sequence& sequence);

  void Preempt(Sequence& sequence);
  void FreeBlocks(Sequence& sequence);  // And the slot.
  void End(Sequence& sequence, Ended ended);
  void Report(const Sequence& sequence, decltype(RequestUpdate::what) what);

  const BatcherLimits limits_;
  const std::vector<TokenId> eos_ids_;

  BlockAllocator pool_;
  std::map<AttemptId, std::unique_ptr<Sequence>> sequences_;
  Queue waiting_;
  Queue running_;
  std::set<uint32_t> free_slots_;
  std::vector<uint32_t> retired_;  // Slots that the next plan gives back on all ranks.
  uint64_t arrivals_ = 0;
  uint64_t preemptions_ = 0;

  struct Scheduled {
    Sequence* sequence;
    uint32_t count;
  };
  bool planned_ = false;  // Between Plan and Commit.
  std::vector<Scheduled> scheduled_;
  std::vector<Sequence*> sampled_;
  std::vector<TokenId> forbidden_;
  std::vector<RequestUpdate> updates_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_BATCHER_H_
