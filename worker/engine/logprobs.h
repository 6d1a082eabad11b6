// What is told about the choice of one token, where it was asked for.
#ifndef TANDEM_WORKER_ENGINE_LOGPROBS_H_
#define TANDEM_WORKER_ENGINE_LOGPROBS_H_

#include <vector>

#include "worker/exec/executor.h"

namespace tandem::worker {

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
};

struct PositionLogprobs {
  TokenLogprob chosen;            // token -1: nothing is known of this position
  std::vector<TokenLogprob> top;  // Highest first.
};

inline PositionLogprobs UnknownLogprobs() { return {.chosen = {.token = -1}}; }

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_LOGPROBS_H_
