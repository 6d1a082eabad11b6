#include "scheduler/request_metrics.h"

#include <algorithm>

#include "scheduler/core/words.h"

namespace tandem::scheduler {
namespace {

constexpr double kFirstToken[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                  1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
constexpr double kPerToken[] = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
constexpr double kWhole[] = {.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
constexpr double kDecision[] = {1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, .001, .002, .005, .01, .1, 1};
constexpr double kDrain[] = {.1, .5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 86400};
constexpr double kTokens[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2000, 5000, 1e4, 20000, 50000, 1e5, 2e5, 5e5};

double Seconds(core::Duration d) { return static_cast<double>(d.us) / 1e6; }

}  // namespace

void Histogram::Add(double value) {
  ++counts_[static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin())];
  ++count_;
  sum_ += value;
}

ModelNumbers::ModelNumbers()
    : first_token(kFirstToken),
      inter_token(kPerToken),
      duration(kWhole),
      queue(kWhole),
      prefill(kWhole),
      decode(kWhole),
      inference(kWhole),
      prompt_size(kTokens),
      output_size(kTokens) {}

FlowNumbers ModelNumbers::Sum() const {
  FlowNumbers sum;
  for (const auto& [tenant, flow] : flows) {
    for (size_t i = 0; i < sum.outcomes.size(); ++i) sum.outcomes[i] += flow.outcomes[i];
    sum.prompt_tokens += flow.prompt_tokens;
    sum.output_tokens += flow.output_tokens;
    sum.cached_tokens += flow.cached_tokens;
    sum.preemptions += flow.preemptions;
  }
  return sum;
}

Outcome OutcomeOf(absl::string_view reason) {
  if (reason == core::Words(core::Reason::kCancelled)) return Outcome::kCancelled;
  if (reason == core::Words(core::Reason::kDeadlineExceeded)) return Outcome::kExpired;
  for (const core::Reason fault :
       {core::Reason::kWorkerLost, core::Reason::kEngineFault, core::Reason::kDrainAborted}) {
    if (reason == core::Words(fault)) return Outcome::kFailed;
  }
  return Outcome::kRejected;
}

// ---- of one request -----------------------------------------------------------------------------------------------

void RequestFlow::Assigned(core::Duration queue) {
  absl::MutexLock lock(&metrics_->mu_);
  model_->queue.Add(Seconds(queue));
}

void RequestFlow::FirstToken(core::Duration since_arrival, core::Duration queue, uint32_t prompt_tokens,
                             uint32_t cached_tokens) {
  absl::MutexLock lock(&metrics_->mu_);
  FlowNumbers& numbers = model_->flows[tenant_];
  numbers.prompt_tokens += prompt_tokens;
  numbers.cached_tokens += cached_tokens;
  model_->prompt_size.Add(prompt_tokens);
  model_->first_token.Add(Seconds(since_arrival));
  model_->prefill.Add(std::max(0.0, Seconds(since_arrival) - Seconds(queue)));
}

void RequestFlow::Preempted() {
  absl::MutexLock lock(&metrics_->mu_);
  ++model_->flows[tenant_].preemptions;
}

void RequestFlow::Finished(const FinishedRequest& request) {
  Tokens(request.unsent_tokens);
  absl::MutexLock lock(&metrics_->mu_);
  FlowNumbers& numbers = model_->flows[tenant_];
  ++numbers.outcomes[static_cast<size_t>(request.stopped ? Outcome::kStopped : Outcome::kLength)];
  model_->inference.Add(std::max(0.0, request.total - request.queue));
  model_->duration.Add(request.total);
  model_->output_size.Add(static_cast<double>(request.output_tokens));
  if (request.first_token <= 0) {  // what FirstToken would have said
    numbers.prompt_tokens += request.prompt_tokens;
    numbers.cached_tokens += request.cached_tokens;
    model_->prompt_size.Add(static_cast<double>(request.prompt_tokens));
    return;
  }
  const double decode = std::max(0.0, request.total - request.first_token);
  model_->decode.Add(decode);
  if (request.output_tokens > 1) model_->inter_token.Add(decode / static_cast<double>(request.output_tokens - 1));
}

void RequestFlow::Failed(absl::string_view reason) {
  absl::MutexLock lock(&metrics_->mu_);
  metrics_->Fail(model_, tenant_, std::string(reason));
}

// ---- of all -------------------------------------------------------------------------------------------------------

RequestFlow* RequestMetrics::FlowOf(const std::string& model, const std::string& tenant) {
  absl::MutexLock lock(&mu_);
  if (numbers_.tenants.size() <= kMostTenants) numbers_.tenants.insert(tenant);
  const std::string& label = numbers_.LabelOf(tenant);
  std::unique_ptr<RequestFlow>& flow = flows_[{model, label}];
  if (flow == nullptr) {
    ModelNumbers& numbers = numbers_.models[model];
    numbers.flows[label];  // shown from now on, be it with zeros
    flow.reset(new RequestFlow(this, &numbers, label));
  }
  return flow.get();
}

void RequestMetrics::Rejected(const std::string& model, const std::string& tenant, const std::string& reason) {
  absl::MutexLock lock(&mu_);
  Fail(model.empty() ? nullptr : &numbers_.models[model], numbers_.LabelOf(tenant), reason);
}

void RequestMetrics::Fail(ModelNumbers* model, const std::string& tenant, const std::string& reason) {
  const Outcome outcome = OutcomeOf(reason);
  ++numbers_.failures[reason];
  if (outcome == Outcome::kRejected) ++numbers_.rejections[{reason, tenant}];
  if (model != nullptr) ++model->flows[tenant].outcomes[static_cast<size_t>(outcome)];
}

const std::string& RequestMetrics::Snapshot::LabelOf(const std::string& tenant) const {
  static const std::string* const kOther = new std::string(kOtherTenants);
  const auto it = tenants.find(tenant);
  return it == tenants.end() ? *kOther : *it;
}

RequestMetrics::Snapshot::Snapshot() : decisions(kDecision), drain_duration(kDrain) {}

void RequestMetrics::Decided(double seconds) {
  absl::MutexLock lock(&mu_);
  numbers_.decisions.Add(seconds);
}

void RequestMetrics::Handled(const std::string& method, int code) {
  absl::MutexLock lock(&mu_);
  ++numbers_.calls[{method, code}];
}

void RequestMetrics::Refused(const std::string& reason) {
  absl::MutexLock lock(&mu_);
  ++numbers_.refused[reason];
}

void RequestMetrics::DrainEnded(core::DrainOutcome outcome, double seconds) {
  static constexpr const char* kWords[] = {"running", "done", "undone", "refused"};
  absl::MutexLock lock(&mu_);
  ++numbers_.drains[kWords[static_cast<int>(outcome)]];
  if (seconds >= 0 && outcome != core::DrainOutcome::kRefused) numbers_.drain_duration.Add(seconds);
}

RequestMetrics::Snapshot RequestMetrics::Read() const {
  absl::MutexLock lock(&mu_);
  Snapshot read = numbers_;
  for (const auto& [key, flow] : flows_) {
    read.models.at(key.first).flows[key.second].output_tokens += flow->tokens_.load(std::memory_order_relaxed);
  }
  return read;
}

}  // namespace tandem::scheduler
