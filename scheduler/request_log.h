// What is written down of requests that get no answer: each is counted, and has a line in the log by which it can be
// found again: its id and its caller's, model, tenant, reason and times. Never a word of a prompt or an answer.
//
// A request that the service failed has its line always. Those that were turned away or whose deadline passed may be
// thousands a second while nothing is broken: they share a budget of lines, and the next line says how many had none.
// Who took a request back knows why.
//
// Any thread may call.
#ifndef TANDEM_SCHEDULER_REQUEST_LOG_H_
#define TANDEM_SCHEDULER_REQUEST_LOG_H_

#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/caller_ids.h"
#include "scheduler/core/types.h"
#include "scheduler/grpc_error.h"
#include "scheduler/request_metrics.h"
#include "scheduler/request_stream.h"

namespace tandem::scheduler {

// What a door knows of a call that it turns away.
struct RefusedCall {
  std::string model;  // by its own name; empty where there is none of the name that was asked for
  std::string tenant;
  CallerIds caller;
};

class RequestLog {
 public:
  using Write = std::function<void(Outcome outcome, const std::string& line)>;
  // Lines go to `write`; unset: to the program's log, failures as errors.
  explicit RequestLog(RequestMetrics* metrics, Write write = nullptr);

  // A door turned it away, and no request came of it.
  void Refused(const RefusedCall& call, const Error& error, core::Instant now) ABSL_LOCKS_EXCLUDED(mu_);
  // The core's last word on a request that did not finish.
  void Failed(const RequestStream& stream, absl::string_view reason, absl::string_view message, core::Instant now)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // May a line be written that is not of a failure? Then `*unwritten` is how many had none since the last.
  bool Spend(core::Instant now, uint64_t* unwritten) ABSL_LOCKS_EXCLUDED(mu_);
  void Say(Outcome outcome, core::Instant now, const std::function<std::string()>& line);

  RequestMetrics* const metrics_;
  const Write write_;
  absl::Mutex mu_;
  double budget_ ABSL_GUARDED_BY(mu_);
  core::Instant filled_ ABSL_GUARDED_BY(mu_);
  uint64_t unwritten_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_REQUEST_LOG_H_
