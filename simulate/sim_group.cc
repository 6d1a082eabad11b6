#include "simulate/sim_group.h"

#include <cstring>
#include <utility>

#include "glog/logging.h"

namespace tandem::simulate {
namespace {

// The engine sees this much of its queue: far more than a step can take, and far less than what a long queue of long
// prompts would hold as tokens.
constexpr int64_t kFedTokens = 1 << 19;
constexpr uint32_t kFedRequests = 1024;

worker::TokenId TokenOf(uint32_t request, uint32_t index) {
  uint64_t mixed = (uint64_t{request} << 32 | index) + 0x9E3779B97F4A7C15u;
  mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
  return static_cast<worker::TokenId>(mixed >> 33);
}

}  // namespace

worker::AttemptId IdOf(uint32_t request, worker::GroupEpoch attempt) {
  worker::AttemptId id{.attempt = attempt};
  std::memcpy(id.request.data(), &request, sizeof(request));
  return id;
}

uint32_t RequestOf(const worker::AttemptId& id) {
  uint32_t request = 0;
  std::memcpy(&request, id.request.data(), sizeof(request));
  return request;
}

SimGroup::SimGroup(const FleetGroup& group, const placement::ModelWork& work, const worker::BatcherLimits& limits,
                   Payload payload)
    : group_(group), work_(work), payload_(std::move(payload)), batcher_(limits, group.kv_blocks, {}) {
  CHECK_GE(limits.max_waiting, kFedRequests);
}

void SimGroup::Deliver(const worker::AttemptId& id, uint32_t prompt_tokens) { inbox_.push_back({id, prompt_tokens}); }

void SimGroup::Feed() {
  int64_t tokens = 0;
  while (!inbox_.empty() && tokens < kFedTokens && batcher_.waiting() < kFedRequests) {
    tokens += inbox_.front().prompt_tokens;
    batcher_.Add(payload_(inbox_.front().id));
    inbox_.pop_front();
  }
}

std::optional<int64_t> SimGroup::Begin(int64_t now_ns) {
  if (stepping()) return std::nullopt;
  // With something of this left from the last time, the engine's queue is as full as it needs to be.
  if (batcher_.waiting() <= 2 || inbox_.size() <= 2) Feed();
  std::optional<worker::StepPlan> plan = batcher_.Plan(cost_.cost());
  if (!plan) return std::nullopt;
  step_tokens_ = static_cast<int64_t>(plan->tokens.size());
  const placement::StepGroup group{
      .chip = group_.chip, .ranks = static_cast<int>(group_.members.size()), .ring = &group_.ring};
  step_ns_ = placement::StepNs(work_, group, ShapeOf(*plan));
  ends_at_ = now_ns + step_ns_;
  return ends_at_;
}

placement::StepShape SimGroup::ShapeOf(const worker::StepPlan& plan) const {
  placement::StepShape shape;
  int64_t context = 0;
  for (const worker::PlanEntry& entry : plan.entries) {
    if (entry.token_count == 1) {
      ++shape.decodes;
      context += entry.start;
    } else {
      if (shape.prefill_tokens > 0) ++shape.prompts;
      shape.prefill_tokens += entry.token_count;
      shape.prefill_context += entry.start;
    }
  }
  if (shape.decodes > 0) shape.context = context / shape.decodes;
  return shape;
}

void SimGroup::Finish() {
  CHECK(stepping());
  ends_at_.reset();
  sampled_.clear();
  for (const worker::Sequence* sequence : batcher_.sampled()) {
    sampled_.push_back({.token = TokenOf(RequestOf(sequence->request->id), sequence->output_tokens())});
  }
  batcher_.Commit(sampled_);
  ++steps_;
  cost_.Observe(step_tokens_, static_cast<double>(step_ns_) / 1e3);
}

SimGroup::Status SimGroup::status() const {
  return {.free_blocks = batcher_.free_blocks(),
          .running = static_cast<int32_t>(batcher_.running()),
          .waiting = static_cast<int32_t>(batcher_.waiting() + inbox_.size()),
          .steps = steps_,
          .preemptions = batcher_.preemptions(),
          .step_us = static_cast<int64_t>(cost_.mean_us()),
          .step_tokens = static_cast<int64_t>(cost_.mean_tokens()),
          .busy = stepping()};
}

}  // namespace tandem::simulate
