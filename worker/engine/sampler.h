// A Sampler chooses the next token of one sequence from its logits.
//
// In this order: penalties, tokens that may not come yet, then the highest logit if the temperature is 0; else
// temperature, top-k, top-p, min-p, and one draw. The draw depends on (seed, index of the token) alone, and the cuts
// break ties by the lower id, so equal logits give equal tokens: on any machine, and again after a preemption.
//
// Logprobs are of the model's own distribution: temperature 1, before penalties and cuts.
//
// Where a device has picked the best tokens of a row (Executor::best), most requests need no more: the token is the one
// that the whole row gives, or nothing is said and the row has to be fetched. Only logprobs may differ, by the order in
// which a sum over the vocabulary was taken: far below the last bit of what is reported.
//
// Holds only scratch memory. Belongs to the engine thread of rank 0.
#ifndef TANDEM_WORKER_ENGINE_SAMPLER_H_
#define TANDEM_WORKER_ENGINE_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/engine/logprobs.h"
#include "worker/engine/request.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// How often each token occurred, for the penalties. Kept beside a sequence that has any.
class TokenCounts {
 public:
  struct Count {
    bool in_prompt = false;
    int32_t in_output = 0;
  };
  void AddPrompt(TokenId token) { counts_[token].in_prompt = true; }
  void AddOutput(TokenId token) { ++counts_[token].in_output; }
  const absl::flat_hash_map<TokenId, Count>& counts() const { return counts_; }

 private:
  absl::flat_hash_map<TokenId, Count> counts_;
};

struct SampledToken {
  TokenId token = 0;
  std::optional<PositionLogprobs> logprobs;
};

struct SampleInput {
  absl::Span<const float> logits;
  const Sampling* sampling = nullptr;
  const TokenCounts* counts = nullptr;  // REQUIRED where sampling->penalizes().
  absl::Span<const TokenId> forbidden;  // May not be chosen; empty once min_tokens is reached.
  uint64_t index = 0;                   // Of the token within the output.
  std::optional<uint32_t> logprobs;
};

// What Sample will look at, so that a device can bring just that.
LogitsWanted WantedOf(const Sampling& sampling, absl::Span<const TokenId> forbidden, std::optional<uint32_t> logprobs);

class Sampler {
 public:
  // INTERNAL where a logit is not a finite number: the model computed nonsense, and so may every later step.
  absl::StatusOr<SampledToken> Sample(const SampleInput& in);

  // The same from the best tokens of a row that was asked for by WantedOf(); `in.logits` is not looked at. Nothing
  // where they do not decide it, which WantedOf() has foreseen: then the row can be fetched.
  absl::StatusOr<std::optional<SampledToken>> SampleFromBest(const SampleInput& in, const BestTokens& best,
                                                             size_t vocab);

 private:
  struct Candidate {
    double weight = 0;  // exp((logit - highest) / temperature)
    float logit = 0;
    TokenId token = 0;
  };

  absl::Span<const float> Adjust(const SampleInput& in);
  TokenId Draw(absl::Span<const float> logits, const Sampling& sampling, uint64_t index);
  // The candidates that a cut leaves, first of candidates_. Nothing: `best` holds too few of them, or may.
  std::optional<size_t> CutBest(const BestTokens& best, const Sampling& sampling);
  // Of the first `count`: those of at least min_p, in their order.
  size_t CutMinP(double min_p, size_t count);
  // One of the first `count`.
  TokenId DrawOf(size_t count, const Sampling& sampling, uint64_t index) const;
  size_t CutTopP(double top_p, double total, size_t count) const;

  std::vector<float> adjusted_;
  std::vector<Candidate> candidates_;
};

// The logprob of `chosen` and the `top` highest, from raw logits.
PositionLogprobs ComputeLogprobs(absl::Span<const float> logits, TokenId chosen, uint32_t top);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_SAMPLER_H_
