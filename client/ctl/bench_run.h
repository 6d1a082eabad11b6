// Sends a workload and notes what comes back, message by message.
//
// Open loop: each request is sent when it is due, whatever became of those before. Closed loop: so many are on their
// way at any time, and a request is due when a place becomes free. Nothing is repeated and nothing is resumed: what the
// service refuses is part of the result.
#ifndef TANDEM_CLIENT_CTL_BENCH_RUN_H_
#define TANDEM_CLIENT_CTL_BENCH_RUN_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/security/dialer.h"
#include "base/trace/trace.h"
#include "client/ctl/bench_stats.h"

namespace tandem::client::ctl {

struct BenchSettings {
  std::string address;
  security::Dialer dialer;
  std::string model;
  std::vector<uint32_t> vocabulary;  // ids that prompts are made of
  uint64_t seed = 0;
  size_t concurrency = 0;  // of a closed loop; 0: open
  absl::Duration timeout = absl::Minutes(10);
};

struct BenchProgress {
  size_t sent = 0, running = 0, completed = 0, missed = 0;
};

// Blocks until every request has ended. `progress` is called about once a second, on this thread. Once `stop` is set
// nothing more is sent and what runs is cancelled; the outcomes are then of what was sent.
absl::StatusOr<std::vector<BenchOutcome>> RunBench(const std::vector<TraceRequest>& workload,
                                                   const BenchSettings& settings,
                                                   const std::function<void(const BenchProgress&)>& progress,
                                                   const std::atomic<bool>& stop);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_BENCH_RUN_H_
