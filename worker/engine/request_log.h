// A RequestLog keeps what rank 0 was asked and what it answered, for whoever lost it: a restarted scheduler, a slow
// reader, a client that comes back (DESIGN 13).
//
// An entry lives from the assignment until its end was acknowledged and `retention` has passed since. A scheduler that
// never acknowledges must not fill the memory, so of the ended entries only the last kMostEnded are kept; running ones
// are as few as the engine takes, and as long as their max_tokens.
//
// Written by the engine thread; read from any thread.
#ifndef TANDEM_WORKER_ENGINE_REQUEST_LOG_H_
#define TANDEM_WORKER_ENGINE_REQUEST_LOG_H_

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "worker/engine/request.h"
#include "worker/engine/update.h"

namespace tandem::worker {

// One request in brief, for a scheduler that attaches anew.
struct HeldRequest {
  AttemptId id;
  uint32_t prompt_tokens = 0;
  uint32_t output_tokens = 0;
  bool ended = false;
};

class RequestLog {
 public:
  static constexpr size_t kMostEnded = 4096;
  // A replay comes in pieces of this many tokens.
  static constexpr size_t kReplayPiece = 4096;

  void Add(std::shared_ptr<const Request> request);

  // Notes what is to be replayed: Produced and Ended. Updates of unknown requests are ignored.
  void Note(const RequestUpdate& update);

  void Acknowledge(const AttemptId& id, SteadyTime now, SteadyTime::duration retention);

  // Drops what was acknowledged and has been kept for long enough.
  void Expire(SteadyTime now);

  // What happened from output index `from` on, as updates. Nothing if the request is unknown.
  std::vector<RequestUpdate> Replay(const AttemptId& id, uint32_t from) const;

  // The same of every request whose end was not acknowledged, without the output that it came with.
  std::vector<RequestUpdate> ReplayAll() const;

  bool has(const AttemptId& id) const;
  // The highest attempt of a request that is kept.
  std::optional<AttemptId> LatestAttempt(const std::array<uint8_t, 16>& request) const;
  std::vector<HeldRequest> Held() const;

 private:
  struct Entry {
    std::shared_ptr<const Request> request;
    std::vector<TokenId> output;             // From index 0, known output included.
    std::vector<PositionLogprobs> logprobs;  // Of the produced tokens, where they were asked for.
    std::optional<Ended> ended;
    std::optional<SteadyTime> drop_at;
  };

  // Of the standard library: ThreadSanitizer does not see through a packaged abseil.
  static void Append(const Entry& entry, uint32_t from, std::vector<RequestUpdate>& out);

  mutable std::mutex mu_;
  std::map<AttemptId, Entry> entries_;  // Guarded by mu_, as is:
  std::deque<AttemptId> ended_;         // Oldest first; may name entries that are gone.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_REQUEST_LOG_H_
