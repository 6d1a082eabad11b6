// A Leader is what rank 0 does besides what every rank does: plan, run, update (DESIGN 6).
//
//     plan     the batcher fills the next step
//     run      all ranks compute it (Shard::Lead)
//     update   a token is sampled for every sequence that wants one; the batcher settles; log and scheduler are told
//
// Belongs to the engine thread; log() may be read from elsewhere.
#ifndef TANDEM_WORKER_ENGINE_LEADER_H_
#define TANDEM_WORKER_ENGINE_LEADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "worker/engine/batcher.h"
#include "worker/engine/report.h"
#include "worker/engine/request_log.h"
#include "worker/engine/sampler.h"
#include "worker/engine/shard.h"
#include "worker/engine/step_cost.h"

namespace tandem::worker {

class Leader {
 public:
  // REQUIRES: `shard` is ready, leads, and outlives this; so does what the functions refer to. `clock` tells how long
  // steps take.
  Leader(Shard* shard, std::function<void(Report)> report, std::function<SteadyTime()> clock);

  // A request with this id, or with a later attempt of it, is not taken again; an earlier attempt gives way.
  void Assign(Request request);
  // Of a request that never came: its end is reported all the same.
  void Abort(const AttemptId& id, absl::string_view reason);
  void AbortAll(absl::string_view reason);
  // All that the scheduler of this leader epoch may have missed, see RequestLog; and what the cache holds.
  void ReplayAll(uint64_t leader_epoch);
  void Acknowledge(const AttemptId& id, SteadyTime now, SteadyTime::duration retention);

  bool idle() const { return batcher_.idle(); }

  // One step, if there is anything to compute. An error is the end of the group.
  absl::Status Step(SteadyTime now);

  // Drops old log entries.
  void Tidy(SteadyTime now) { log_->Expire(now); }

  void FillStatus(ShardStatus& status) const;
  const std::shared_ptr<RequestLog>& log() const { return log_; }

 private:
  absl::Status Sample(absl::Span<const float> rows, std::vector<SampledToken>& tokens);
  void Flush();
  std::optional<std::string> Unusable(const Request& request, bool picture) const;
  void EndAtOnce(const AttemptId& id, Ended ended);

  Shard* const shard_;
  const std::function<void(Report)> report_;
  const std::function<SteadyTime()> clock_;
  Batcher batcher_;
  Sampler sampler_;
  StepCostModel cost_;
  std::shared_ptr<RequestLog> log_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_LEADER_H_
