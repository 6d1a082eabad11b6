#include "worker/engine/sampler.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "worker/engine/philox.h"

namespace tandem::worker {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// The first of the highest.
TokenId Highest(absl::Span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

absl::Status NotFinite(const TokenLogit& bad, uint64_t index) {
  return absl::InternalError(
      absl::StrCat("the model computed ", bad.logit, " as logit of token ", bad.token, " for output index ", index));
}

// As ComputeLogprobs. `chosen` is one of the best.
PositionLogprobs LogprobsOfBest(const BestTokens& best, TokenId chosen, uint32_t top) {
  const double norm = best.tokens[0].logit + std::log(best.sum);
  const auto logprob = [&](const TokenLogit& one) {
    return TokenLogprob{.token = one.token, .logprob = static_cast<float>(one.logit - norm)};
  };
  PositionLogprobs out;
  for (const TokenLogit& one : best.tokens) {
    if (one.token == chosen) out.chosen = logprob(one);
    if (out.top.size() < top) out.top.push_back(logprob(one));
  }
  return out;
}

}  // namespace

LogitsWanted WantedOf(const Sampling& sampling, absl::Span<const TokenId> forbidden, std::optional<uint32_t> logprobs) {
  if (sampling.penalizes() || !forbidden.empty()) return {};
  const bool greedy = !(sampling.temperature > 0);
  const bool counted = greedy || sampling.top_k > 0;
  const bool cut = counted || sampling.top_p < 1 || sampling.min_p > 0;
  if (!cut) return {};  // Any token may come.
  const int64_t best = std::max<int64_t>(greedy               ? 1
                                         : sampling.top_k > 0 ? sampling.top_k
                                                              : kMostBestTokens,
                                         logprobs.value_or(0));
  if (best > kMostBestTokens) return {};
  const float temperature = !counted ? sampling.temperature : logprobs ? 1.0f : 0.0f;
  return {.best = static_cast<int32_t>(best), .row = !counted, .temperature = temperature};
}

absl::StatusOr<SampledToken> Sampler::Sample(const SampleInput& in) {
  CHECK(!in.logits.empty());
  // x - x is 0 for a finite number and NaN for all others; a sum of them keeps the NaN and the loop its speed.
  float poison = 0;
  for (float logit : in.logits) poison += logit - logit;
  if (poison != 0) {
    size_t at =
        std::find_if(in.logits.begin(), in.logits.end(), [](float x) { return !std::isfinite(x); }) - in.logits.begin();
    return NotFinite({.token = static_cast<TokenId>(at), .logit = in.logits[at]}, in.index);
  }
  absl::Span<const float> logits = Adjust(in);
  SampledToken out;
  out.token = in.sampling->temperature > 0 ? Draw(logits, *in.sampling, in.index) : Highest(logits);
  if (in.logprobs) out.logprobs = ComputeLogprobs(in.logits, out.token, *in.logprobs);
  return out;
}

absl::StatusOr<std::optional<SampledToken>> Sampler::SampleFromBest(const SampleInput& in, const BestTokens& best,
                                                                    size_t vocab) {
  CHECK(!best.tokens.empty());
  if (best.not_finite) return NotFinite(*best.not_finite, in.index);
  const Sampling& sampling = *in.sampling;
  SampledToken out;
  if (!(sampling.temperature > 0)) {
    out.token = best.tokens[0].token;
  } else if (best.tokens.size() == vocab) {
    // A small vocabulary: it is the whole row, in another order.
    adjusted_.resize(vocab);
    for (const TokenLogit& one : best.tokens) adjusted_[static_cast<size_t>(one.token)] = one.logit;
    out.token = Draw(adjusted_, sampling, in.index);
  } else if (const std::optional<size_t> count = CutBest(best, sampling)) {
    out.token = DrawOf(*count, sampling, in.index);
  } else {
    return std::nullopt;
  }
  if (in.logprobs) out.logprobs = LogprobsOfBest(best, out.token, *in.logprobs);
  return out;
}

absl::Span<const float> Sampler::Adjust(const SampleInput& in) {
  const Sampling& sampling = *in.sampling;
  if (!sampling.penalizes() && in.forbidden.empty()) return in.logits;
  adjusted_.assign(in.logits.begin(), in.logits.end());
  if (sampling.penalizes()) {
    CHECK(in.counts != nullptr) << "penalties without counts";
    // Each token is changed by its own count alone, so the map's order does not show.
    for (const auto& [token, count] : in.counts->counts()) {
      if (token < 0 || static_cast<size_t>(token) >= adjusted_.size()) continue;
      float& logit = adjusted_[token];
      logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
      if (count.in_output > 0) {
        logit -= sampling.presence_penalty + sampling.frequency_penalty * static_cast<float>(count.in_output);
      }
    }
  }
  size_t left = adjusted_.size();
  for (TokenId token : in.forbidden) {
    if (token < 0 || static_cast<size_t>(token) >= adjusted_.size() || adjusted_[token] == kNever) continue;
    // A vocabulary of stop tokens only: something must come, so the last one stays allowed.
    if (--left == 0) break;
    adjusted_[token] = kNever;
  }
  return adjusted_;
}

TokenId Sampler::Draw(absl::Span<const float> logits, const Sampling& sampling, uint64_t index) {
  const double highest = logits[Highest(logits)];
  const double scale = 1.0 / sampling.temperature;
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_[i] = {
        .weight = std::exp((logits[i] - highest) * scale), .logit = logits[i], .token = static_cast<TokenId>(i)};
  }
  size_t count = candidates_.size();
  // By the logit and not by its weight, which may be equal where logits are not.
  auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  if (sampling.top_k > 0 && static_cast<size_t>(sampling.top_k) < count) {
    count = sampling.top_k;
    std::partial_sort(candidates_.begin(), candidates_.begin() + count, candidates_.end(), better);
  }
  if (sampling.top_p < 1) {
    double total = 0;
    for (size_t i = 0; i < count; ++i) total += candidates_[i].weight;
    // The kept tokens are nearly always few: sort a growing head instead of the whole vocabulary.
    size_t kept = 0;
    for (size_t head = 64;; head *= 8) {
      head = std::min(head, count);
      std::partial_sort(candidates_.begin(), candidates_.begin() + head, candidates_.begin() + count, better);
      kept = CutTopP(sampling.top_p, total, head);
      if (kept < head || head == count) break;
    }
    count = kept;
  }
  return DrawOf(CutMinP(sampling.min_p, count), sampling, index);
}

std::optional<size_t> Sampler::CutBest(const BestTokens& best, const Sampling& sampling) {
  const double highest = best.tokens[0].logit;
  const double scale = 1.0 / sampling.temperature;
  candidates_.resize(best.tokens.size());
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const TokenLogit& one = best.tokens[i];
    candidates_[i] = {.weight = std::exp((one.logit - highest) * scale), .logit = one.logit, .token = one.token};
  }
  size_t count = candidates_.size();
  if (sampling.top_k > 0) {
    count = std::min(count, static_cast<size_t>(sampling.top_k));
    if (sampling.top_p < 1) {
      double total = 0;
      for (size_t i = 0; i < count; ++i) total += candidates_[i].weight;
      count = CutTopP(sampling.top_p, total, count);
    }
    return CutMinP(sampling.min_p, count);
  }
  if (sampling.top_p < 1) {
    // The sum over the row was taken in another order than here. Where that could move the cut, the row decides.
    const double share = sampling.top_p * best.tempered_sum;
    const size_t kept = CutTopP(1, share * (1 + kSumError), count);
    if (kept != CutTopP(1, share * (1 - kSumError), count)) return std::nullopt;
    double sum = 0;
    for (size_t i = 0; i < kept; ++i) sum += candidates_[i].weight;
    if (sum < share * (1 + kSumError)) return std::nullopt;
    return CutMinP(sampling.min_p, kept);
  }
  // min_p alone: those that it leaves, in the row's order, if there is none beyond.
  if (!(candidates_.back().weight < sampling.min_p * (1 - kSumError))) return std::nullopt;
  count = CutMinP(sampling.min_p, count);
  std::sort(candidates_.begin(), candidates_.begin() + count,
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  return count;
}

size_t Sampler::CutMinP(double min_p, size_t count) {
  if (!(min_p > 0)) return count;
  const auto end = std::remove_if(candidates_.begin(), candidates_.begin() + count,
                                  [&](const Candidate& c) { return c.weight < min_p; });
  return static_cast<size_t>(end - candidates_.begin());
}

TokenId Sampler::DrawOf(size_t count, const Sampling& sampling, uint64_t index) const {
  CHECK_GT(count, 0u);
  double total = 0;
  for (size_t i = 0; i < count; ++i) total += candidates_[i].weight;
  double rest = UniformDraw(sampling.seed, index) * total;
  TokenId last = candidates_[0].token;
  for (size_t i = 0; i < count; ++i) {
    if (candidates_[i].weight == 0) continue;
    last = candidates_[i].token;
    rest -= candidates_[i].weight;
    if (rest < 0) break;
  }
  return last;
}

// The least number of candidates, of the `count` that are sorted, whose share reaches `top_p`; at least one.
size_t Sampler::CutTopP(double top_p, double total, size_t count) const {
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    sum += candidates_[i].weight;
    if (sum >= top_p * total) return i + 1;
  }
  return count;
}

PositionLogprobs ComputeLogprobs(absl::Span<const float> logits, TokenId chosen, uint32_t top) {
  double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - highest);
  const double norm = highest + std::log(sum);
  auto logprob = [&](TokenId token) {
    return TokenLogprob{.token = token, .logprob = static_cast<float>(logits[token] - norm)};
  };
  PositionLogprobs out{.chosen = logprob(chosen)};
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  size_t count = std::min<size_t>(top, order.size());
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](TokenId a, TokenId b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  for (size_t i = 0; i < count; ++i) out.top.push_back(logprob(order[i]));
  return out;
}

}  // namespace tandem::worker
