// What a step did to one request. Updates of one request are reported in the order in which they happened.
#ifndef TANDEM_WORKER_ENGINE_UPDATE_H_
#define TANDEM_WORKER_ENGINE_UPDATE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "worker/engine/request.h"
#include "worker/engine/sampler.h"

namespace tandem::worker {

struct Started {
  uint32_t cached_tokens = 0;  // Of the prompt; their keys and values were there already.
};

struct Produced {
  uint32_t first_index = 0;
  std::vector<TokenId> tokens;
  std::vector<PositionLogprobs> logprobs;  // One per token, or empty.
};

struct Preempted {
  uint32_t computed_tokens = 0;  // To be computed again.
};

// The last update of a request: its blocks are free.
struct Ended {
  enum class How {
    kStopped,        // a stop token or end-of-sequence
    kLengthReached,  // max_tokens, or the context is full
    kAborted,        // on request, by its deadline, or with the group
    kRefused,        // never ran
    kFault,
  };
  How how = How::kAborted;
  std::optional<TokenId> stop_token;  // Counted in output_tokens, but never Produced.
  uint32_t output_tokens = 0;
  std::string message;
  std::string vector;      // An encoder's answer, little-endian float32; or
  std::string unreadable;  // why there is none, and will be none elsewhere: what is wrong with the input.
};

// Opens the history of a request that its reader can not know, told from index 0 on.
struct Held {
  std::shared_ptr<const Request> request;
  bool ended = false;
  uint32_t output_tokens = 0;  // That follow.
  std::string numerics_id;
};

struct RequestUpdate {
  AttemptId id;
  std::variant<Started, Produced, Preempted, Ended, Held> what;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_UPDATE_H_
