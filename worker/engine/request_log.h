// A RequestLog keeps what rank 0 was asked and what it answered, for whoever lost it: a restarted scheduler, a slow
// reader, a client that comes back (DESIGN 13).
//
// An entry lives from the assignment until its end was acknowledged and `retention` has passed since. A scheduler that
// never acknowledges must not fill the memory, so of the ended entries only the last kMostEnded are kept; running ones
// are as few as the engine takes, and as long as their max_tokens.
//
// Which scheduler knows a request is told by the attempt: one that an earlier leader made is Held for a later one, with
// its history from index 0 on, even if its end was acknowledged to the earlier one; its client may not have read it
// yet.
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
#include <set>
#include <string>
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
  static constexpr size_t kReplayPieceWithLogprobs = 256;  // Up to 21 pairs each.
  // A scheduler that starts anew hears of all that run; of what has ended it hears the latest, up to these bytes, so
  // that what waits to be read does not hold up what computes.
  static constexpr size_t kMostEndedBytes = size_t{16} << 20;

  void Add(std::shared_ptr<const Request> request);

  // Notes what is to be replayed. Updates of unknown requests are ignored.
  void Note(const RequestUpdate& update);

  void Acknowledge(const AttemptId& id, SteadyTime now, SteadyTime::duration retention);

  // Drops what was acknowledged and has been kept for long enough.
  void Expire(SteadyTime now);

  // All that the scheduler of this leader epoch may have missed: of its own requests those whose end it did not
  // acknowledge, without the output that they came with; earlier leaders' requests whole, from Held on.
  std::vector<RequestUpdate> ReplayAll(uint64_t leader_epoch, const std::string& numerics_id);

  bool has(const AttemptId& id) const;
  // The highest attempt of a request that is kept.
  std::optional<AttemptId> LatestAttempt(const std::array<uint8_t, 16>& request) const;
  std::vector<HeldRequest> Held() const;

 private:
  struct Entry {
    std::shared_ptr<const Request> request;
    std::vector<TokenId> output;             // From index 0, known output included.
    std::vector<PositionLogprobs> logprobs;  // Of the last of them, as many as are known.
    std::optional<Started> started;          // The first time.
    bool preempted = false;                  // Waits to go on.
    std::optional<Ended> ended;
    bool acknowledged = false;  // By the present leader.
    std::optional<SteadyTime> drop_at;

    size_t bytes() const;  // About.
  };

  static void Append(const Entry& entry, uint32_t from, std::vector<RequestUpdate>& out);
  void AppendHeld(const Entry& entry, const std::string& numerics_id, std::vector<RequestUpdate>& out) const;
  // Those of earlier leaders that have ended and are too many to be told.
  std::set<AttemptId> TooOldToTell() const;

  // Of the standard library: ThreadSanitizer does not see through a packaged abseil.
  mutable std::mutex mu_;
  uint64_t leader_ = 0;  // The highest seen; guarded by mu_, as are:
  std::map<AttemptId, Entry> entries_;
  std::deque<AttemptId> ended_;  // Oldest first; may name entries that are gone.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_REQUEST_LOG_H_
