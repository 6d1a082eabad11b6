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

void RequestMetrics::Finished(const std::string& model, const FinishedRequest& request) {
  absl::MutexLock lock(&mu_);
  ModelNumbers& numbers = numbers_.models[model];
  ++(request.stopped ? numbers.stopped : numbers.length_reached);
  numbers.prompt_tokens += request.prompt_tokens;
  numbers.output_tokens += request.output_tokens;
  numbers.cached_tokens += request.cached_tokens;
  numbers.preemptions += request.preemptions;
  numbers.queue.Add(request.queue);
  numbers.inference.Add(std::max(0.0, request.total - request.queue));
  numbers.duration.Add(request.total);
  numbers.prompt_size.Add(static_cast<double>(request.prompt_tokens));
  numbers.output_size.Add(static_cast<double>(request.output_tokens));
  if (request.first_token <= 0) return;  // it ended without a token
  numbers.first_token.Add(request.first_token);
  numbers.prefill.Add(std::max(0.0, request.first_token - request.queue));
  const double decode = std::max(0.0, request.total - request.first_token);
  numbers.decode.Add(decode);
  if (request.output_tokens > 1) numbers.inter_token.Add(decode / static_cast<double>(request.output_tokens - 1));
}

void RequestMetrics::Failed(const std::string& model, core::Reason reason) {
  absl::MutexLock lock(&mu_);
  ModelNumbers& numbers = numbers_.models[model];
  ++(reason == core::Reason::kCancelled ? numbers.cancelled : numbers.failed);
  ++numbers_.failures[core::Words(reason)];
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
  return numbers_;
}

}  // namespace tandem::scheduler
