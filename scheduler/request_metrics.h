// What became of requests, counted and measured for Prometheus: one set of numbers a model.
//
// Observed by the core's thread when it lets a request go, read by the metrics door: one lock, held for a few
// additions. Labels are names of models that were deployed, reasons and outcomes: all from bounded sets, so that no
// client can grow them. Buckets are vLLM's, so that dashboards made for it compare like with like.
#ifndef TANDEM_SCHEDULER_REQUEST_METRICS_H_
#define TANDEM_SCHEDULER_REQUEST_METRICS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "scheduler/core/action.h"

namespace tandem::scheduler {

// Cumulative only when written out.
class Histogram {
 public:
  explicit Histogram(absl::Span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void Add(double value);
  absl::Span<const double> bounds() const { return bounds_; }
  const std::vector<uint64_t>& counts() const { return counts_; }  // the last one is above all bounds
  uint64_t count() const { return count_; }
  double sum() const { return sum_; }

 private:
  absl::Span<const double> bounds_;  // of a table that lives for ever
  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  double sum_ = 0;
};

// A request that finished. Times in seconds.
struct FinishedRequest {
  uint64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0, preemptions = 0;
  double queue = 0;        // arrival to assignment
  double first_token = 0;  // arrival to first token; 0: there was none
  double total = 0;
  bool stopped = false;  // else its length was reached
};

struct ModelNumbers {
  ModelNumbers();
  uint64_t stopped = 0, length_reached = 0, failed = 0, cancelled = 0;
  uint64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0, preemptions = 0;
  Histogram first_token, inter_token, duration, queue, prefill, decode, inference, prompt_size, output_size;
};

class RequestMetrics {
 public:
  struct Snapshot {
    Snapshot();
    std::map<std::string, ModelNumbers> models;
    std::map<std::string, uint64_t> failures;               // by reason
    std::map<std::string, uint64_t> drains;                 // by outcome
    std::map<std::pair<std::string, int>, uint64_t> calls;  // answered, by gRPC's method and status code
    std::map<std::string, uint64_t> refused;                // calls, by reason: nobody known, or not his to do
    Histogram decisions;                                    // seconds of a step of the core
    Histogram drain_duration;                               // seconds of drains that came to their end, undone ones too
  };

  void Finished(const std::string& model, const FinishedRequest& request);
  void Failed(const std::string& model, core::Reason reason);
  // `seconds` since it was asked for; below 0: not known.
  void DrainEnded(core::DrainOutcome outcome, double seconds);
  void Decided(double seconds);
  // `method`: a name of a registered service's table.
  void Handled(const std::string& method, int code);
  void Refused(const std::string& reason);
  Snapshot Read() const;

 private:
  mutable absl::Mutex mu_;
  Snapshot numbers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_REQUEST_METRICS_H_
