// A Request as the engine knows it: ids and numbers, no text. Fixed once it was taken.
#ifndef TANDEM_WORKER_ENGINE_REQUEST_H_
#define TANDEM_WORKER_ENGINE_REQUEST_H_

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "worker/comm/group_identity.h"
#include "worker/engine/logprobs.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// Never taken from a message: durations travel, and become instants where they arrive.
using SteadyTime = std::chrono::steady_clock::time_point;

// One try to compute a request. Ends and tokens match on both halves.
struct AttemptId {
  std::array<uint8_t, 16> request{};
  GroupEpoch attempt;

  friend auto operator<=>(const AttemptId&, const AttemptId&) = default;
  std::string ToString() const {
    absl::string_view bytes(reinterpret_cast<const char*>(request.data()), request.size());
    return absl::StrCat(absl::BytesToHexString(bytes), "#", attempt.ToString());
  }
};

// How a token is chosen; complete, no field is "unset".
struct Sampling {
  float temperature = 0;  // 0: the highest logit, the lowest id among equals
  float top_p = 1;
  int32_t top_k = 0;  // <= 0: off
  float min_p = 0;
  float presence_penalty = 0;    // output only
  float frequency_penalty = 0;   // output only
  float repetition_penalty = 1;  // prompt and output
  uint64_t seed = 0;

  bool penalizes() const { return presence_penalty != 0 || frequency_penalty != 0 || repetition_penalty != 1; }
};

struct Request {
  AttemptId id;
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;  // Known output of earlier attempts. Not reported again.
  Sampling sampling;
  uint32_t max_tokens = 1;  // Of the whole output, `output` included.
  uint32_t min_tokens = 0;
  std::vector<TokenId> stop_token_ids;
  bool ignore_eos = false;
  std::optional<uint32_t> logprobs;  // How many alternatives beside the chosen token.
  int32_t priority = 0;              // Higher goes first.
  std::optional<SteadyTime> deadline;
  std::string cache_salt;
  uint32_t second_text_at = 0;  // Of an encoder: where the second text's tokens begin; 0: there is none.
  std::string image;            // Of an encoder: a picture's file in the place of a text; gone once it was read.

  // Kept for a scheduler that starts anew; the engine makes nothing of them.
  std::vector<std::string> stop;
  std::string tenant;
  std::string idempotency_key;
  std::string token_sink;
  std::vector<PositionLogprobs> output_logprobs;  // Of `output`, one each, or none.
  std::string model;
  std::string model_revision;
  uint32_t chunk_interval_ms = 0;
  uint64_t fingerprint = 0;
  std::string caller_id, trace_id;
  SteadyTime arrived{};  // At the scheduler.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_REQUEST_H_
