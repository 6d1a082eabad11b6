// One group of the fleet: the engine's own batcher with its KV blocks, prefix cache and preemption, and in the place of
// a device the time that the step model gives a step. As in a worker, what comes during a step is read when it ends,
// and what happened is told when a step ends.
//
// Tokens are drawn from the request and their index, so that answers differ and nobody's text is in the cache of
// another. Time in nanoseconds of the simulation. One thread.
#ifndef TANDEM_SIMULATE_SIM_GROUP_H_
#define TANDEM_SIMULATE_SIM_GROUP_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "placement/planner/step_model.h"
#include "simulate/fleet.h"
#include "worker/engine/batcher.h"
#include "worker/engine/request.h"
#include "worker/engine/step_cost.h"
#include "worker/engine/update.h"
#include "worker/kv/block_allocator.h"

namespace tandem::simulate {

// A request of the simulation is its place in the trace; so is its id in an engine.
worker::AttemptId IdOf(uint32_t request, worker::GroupEpoch attempt);
uint32_t RequestOf(const worker::AttemptId& id);

class SimGroup {
 public:
  // What a queued request is made into when the engine is about to look at it.
  using Payload = std::function<std::shared_ptr<const worker::Request>(const worker::AttemptId& id)>;

  // `group`, `work` and `payload` outlive it.
  SimGroup(const FleetGroup& group, const placement::ModelWork& work, const worker::BatcherLimits& limits,
           Payload payload);

  // Comes behind all that wait here. `prompt_tokens`: what it takes of the engine's memory while it waits.
  void Deliver(const worker::AttemptId& id, uint32_t prompt_tokens);

  bool stepping() const { return ends_at_.has_value(); }
  // Starts a step if none runs and there is something to compute; the time at which it ends.
  std::optional<int64_t> Begin(int64_t now_ns);
  // The step ends.
  void Finish();

  // What happened since they were last taken.
  std::vector<worker::RequestUpdate> TakeUpdates() { return batcher_.TakeUpdates(); }
  worker::BlockAllocator::Changes TakeCacheChanges() { return batcher_.TakeCacheChanges(); }

  struct Status {
    int32_t free_blocks = 0, running = 0, waiting = 0;
    uint64_t steps = 0, preemptions = 0;
    int64_t step_us = 0, step_tokens = 0;
    bool busy = false;
  };
  Status status() const;

 private:
  struct Waiting {
    worker::AttemptId id;
    uint32_t prompt_tokens;
  };
  void Feed();
  placement::StepShape ShapeOf(const worker::StepPlan& plan) const;

  const FleetGroup& group_;
  const placement::ModelWork& work_;
  const Payload payload_;
  worker::Batcher batcher_;
  worker::StepCostModel cost_;
  std::deque<Waiting> inbox_;
  std::optional<int64_t> ends_at_;
  int64_t step_ns_ = 0, step_tokens_ = 0;
  uint64_t steps_ = 0;
  std::vector<worker::SampledToken> sampled_;
};

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_SIM_GROUP_H_
