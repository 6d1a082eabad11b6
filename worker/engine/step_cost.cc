#include "worker/engine/step_cost.h"

#include <algorithm>

namespace tandem::worker {
namespace {

constexpr double kFade = 0.95;                    // A step's weight halves in about 14 steps of its kind.
constexpr int64_t kLarge = 16;                    // Tokens from which a step counts as large.
constexpr int64_t kUnbounded = int64_t{1} << 30;  // More tokens than any step has.

}  // namespace

int64_t StepCost::TokensWithin(double budget_us) const {
  if (per_token_us <= 0) return fixed_us < budget_us ? kUnbounded : 0;
  double tokens = (budget_us - fixed_us) / per_token_us;
  return static_cast<int64_t>(std::clamp(tokens, 0.0, static_cast<double>(kUnbounded)));
}

void StepCostModel::Mean::Add(double step_tokens, double step_us) {
  weight = weight * kFade + 1;
  tokens += (step_tokens - tokens) / weight;
  us += (step_us - us) / weight;
}

void StepCostModel::Observe(int64_t tokens, double us) {
  (tokens < kLarge ? small_ : large_).Add(static_cast<double>(tokens), us);
  all_.Add(static_cast<double>(tokens), us);
}

StepCost StepCostModel::cost() const {
  const Mean& known = large_.weight > 0 ? large_ : small_;
  if (known.weight == 0) return {};
  // With one mean only, all of the time is put on the tokens, which errs to the side of small chunks.
  double average = known.us / known.tokens;
  if (small_.weight == 0 || large_.weight == 0) return {.fixed_us = 0, .per_token_us = average};
  double slope = (large_.us - small_.us) / (large_.tokens - small_.tokens);
  // Noise must not make tokens look free.
  slope = std::clamp(slope, 0.05 * average, average);
  return {.fixed_us = std::max(0.0, small_.us - slope * small_.tokens), .per_token_us = slope};
}

}  // namespace tandem::worker
