// What becomes of requests, counted and measured for Prometheus: one set of numbers a model, and counts a tenant of it.
//
// Told where it happens: by a request's stream when an engine gets it and when its tokens pass, by the core's thread at
// its end, by the doors where they refuse. So one that hangs or is taken back is in the numbers too, as far as it came.
// One lock, held for a few additions; tokens, which are many, take none.
//
// Labels are names of models that were deployed, reasons, outcomes, and the first kMostTenants tenants that were
// served; all further ones are "other". All are bounded, so that no client can grow them. Buckets are vLLM's, so that
// dashboards made for it compare like with like.
#ifndef TANDEM_SCHEDULER_REQUEST_METRICS_H_
#define TANDEM_SCHEDULER_REQUEST_METRICS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
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

// How a request ended, as one who is woken at night would sort it.
enum class Outcome {
  kStopped,    // well: an end-of-sequence token, a stop token or a stop string
  kLength,     // well
  kCancelled,  // somebody took it back
  kExpired,    // its caller's deadline passed
  kRejected,   // turned away: for what it asks, for its caller's share, or for lack of room
  kFailed,     // the service did not bring it to its end
};
inline constexpr const char* kOutcomeWords[] = {"stopped", "length", "cancelled", "expired", "rejected", "failed"};
// `reason`: of the API, of a request that did not end well.
Outcome OutcomeOf(absl::string_view reason);

// Seconds of a request that finished.
struct FinishedRequest {
  uint64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0;
  uint64_t unsent_tokens = 0;  // of the output: a stop token, which did not pass
  double queue = 0;            // arrival to assignment
  double first_token = 0;      // arrival to first token; 0: there was none, or an earlier scheduler saw it
  double total = 0;
  bool stopped = false;  // else its length was reached
};

// Of one tenant's requests for one model.
struct FlowNumbers {
  std::array<uint64_t, std::size(kOutcomeWords)> outcomes = {};
  uint64_t prompt_tokens = 0, output_tokens = 0, cached_tokens = 0, preemptions = 0;
};

struct ModelNumbers {
  ModelNumbers();
  FlowNumbers Sum() const;
  std::map<std::string, FlowNumbers> flows;  // by the tenant's label
  Histogram first_token, inter_token, duration, queue, prefill, decode, inference, prompt_size, output_size;
};

class RequestMetrics;

// Where the requests of one tenant for one model are counted. Lives as long as its RequestMetrics; any thread.
class RequestFlow {
 public:
  // An engine got it for the first time.
  void Assigned(core::Duration queue);
  void FirstToken(core::Duration since_arrival, core::Duration queue, uint32_t prompt_tokens, uint32_t cached_tokens);
  void Tokens(size_t count) { tokens_.fetch_add(count, std::memory_order_relaxed); }
  void Preempted();
  // The two ways to end, for requests that the core let in or refused.
  void Finished(const FinishedRequest& request);
  void Failed(absl::string_view reason);

 private:
  friend class RequestMetrics;
  RequestFlow(RequestMetrics* metrics, ModelNumbers* model, std::string tenant)
      : metrics_(metrics), model_(model), tenant_(std::move(tenant)) {}

  RequestMetrics* const metrics_;
  ModelNumbers* const model_;
  const std::string tenant_;  // its label
  std::atomic<uint64_t> tokens_{0};
};

class RequestMetrics {
 public:
  static constexpr size_t kMostTenants = 32;
  static constexpr const char* kOtherTenants = "other";

  struct Snapshot {
    Snapshot();
    // The label of a tenant.
    const std::string& LabelOf(const std::string& tenant) const;
    std::set<std::string> tenants = {""};  // that have a label of their own
    std::map<std::string, ModelNumbers> models;
    std::map<std::string, uint64_t> failures;                            // by reason, all that did not finish
    std::map<std::pair<std::string, std::string>, uint64_t> rejections;  // by reason and tenant's label
    std::map<std::string, uint64_t> drains;                              // by outcome
    std::map<std::pair<std::string, int>, uint64_t> calls;               // answered, by gRPC's method and status code
    std::map<std::string, uint64_t> refused;  // calls, by reason: nobody known, or not his to do
    Histogram decisions;                      // seconds of a step of the core
    Histogram drain_duration;                 // seconds of drains that came to their end, undone ones too
  };

  // `model`: of one that is deployed. `tenant`: of a request that was found good; it may get a label of its own.
  RequestFlow* FlowOf(const std::string& model, const std::string& tenant);
  // A request that a door turned away before the core heard of it. `model`: empty where there is none of that name.
  void Rejected(const std::string& model, const std::string& tenant, const std::string& reason);
  // `seconds` since it was asked for; below 0: not known.
  void DrainEnded(core::DrainOutcome outcome, double seconds);
  void Decided(double seconds);
  // `method`: a name of a registered service's table.
  void Handled(const std::string& method, int code);
  void Refused(const std::string& reason);
  Snapshot Read() const;

 private:
  friend class RequestFlow;
  void Fail(ModelNumbers* model, const std::string& tenant, const std::string& reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  Snapshot numbers_ ABSL_GUARDED_BY(mu_);  // output_tokens of flows lack those that are in flows_
  std::map<std::pair<std::string, std::string>, std::unique_ptr<RequestFlow>> flows_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_REQUEST_METRICS_H_
