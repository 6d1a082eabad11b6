// How long a step of n tokens takes, learned from the steps that ran: fixed + n * per token.
//
// Reading the weights costs the same for one token as for twenty, which is the fixed part; what a token adds is the
// slope. Both come from the line through two running means: of small steps (streams that generate) and of large ones
// (prompts). They are kept apart so that an hour of small steps does not wash out what a prompt costs. Only rank 0
// learns, and the batcher gets the two numbers: no other clock has a say in what runs.
#ifndef TANDEM_WORKER_ENGINE_STEP_COST_H_
#define TANDEM_WORKER_ENGINE_STEP_COST_H_

#include <cstdint>

namespace tandem::worker {

struct StepCost {
  double fixed_us = 0;
  double per_token_us = 0;  // 0: not known yet

  // How many tokens fit into `budget_us`; at least 0.
  int64_t TokensWithin(double budget_us) const;
};

class StepCostModel {
 public:
  // A step of `tokens` tokens took `us`. REQUIRES: tokens >= 1.
  void Observe(int64_t tokens, double us);

  StepCost cost() const;

  // Mean length of the recent steps.
  double mean_us() const { return all_.us; }
  double mean_tokens() const { return all_.tokens; }

 private:
  struct Mean {
    double weight = 0;
    double tokens = 0;
    double us = 0;
    void Add(double step_tokens, double step_us);
  };
  Mean small_;
  Mean large_;
  Mean all_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_STEP_COST_H_
