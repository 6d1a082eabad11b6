// What became of the requests of a benchmark, and the figures that are reported of it.
//
//   TTFT     from the moment the request was due to its first token
//   TPOT     (E2E - TTFT) / (tokens - 1), of each request with two tokens or more; 0 for goodput of the others
//   ITL      every gap between two messages with tokens, of all requests together: long answers weigh more
//   E2E      from the moment the request was due to its last message
//   goodput  requests per second that ended well within every limit. Offered ones that were rejected, failed or came
//            too late are misses, all alike.
//
// All times begin when a request was due, not when it was sent: a generator that falls behind, or waits for a slow
// service, must not make the service look better.
#ifndef TANDEM_CLIENT_CTL_BENCH_STATS_H_
#define TANDEM_CLIENT_CTL_BENCH_STATS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::client::ctl {

// Times in microseconds since the start of the benchmark.
struct BenchOutcome {
  enum class End { kCompleted, kRejected, kFailed };
  End end = End::kFailed;
  std::string reason;  // of an end that was not well
  int64_t due_us = 0;
  int64_t sent_us = 0;
  int64_t first_us = 0;  // first token; REQUIRES: tokens > 0 to be read
  int64_t last_us = 0;   // last message
  uint32_t tokens = 0;
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
  std::vector<int64_t> gaps_us;
};

struct ServiceLevel {
  std::optional<int64_t> ttft_us, tpot_us, e2e_us;
};
// "ttft=500ms,tpot=50ms,e2e=10s", any of the three.
absl::StatusOr<ServiceLevel> ParseServiceLevel(absl::string_view text);

struct Distribution {
  size_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, most = 0;  // milliseconds
};

// Between the two nearest values, as numpy's default. REQUIRES: sorted and not empty; share in [0, 1].
double Percentile(const std::vector<int64_t>& sorted, double share);
Distribution Distribute(std::vector<int64_t> values_us);

struct BenchReport {
  size_t offered = 0, completed = 0, rejected = 0, failed = 0, within_limits = 0;
  double seconds = 0;       // from the first due moment to the last message
  double offered_rate = 0;  // requests per second, by the moments they were due
  double completed_rate = 0, goodput = 0, output_token_rate = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;  // of completed requests
  Distribution ttft, tpot, itl, e2e;                                 // of completed requests
  Distribution lateness;                                             // of sending, the generator's own
  std::map<std::string, size_t> reasons;                             // of rejections and failures
};
BenchReport Summarize(const std::vector<BenchOutcome>& outcomes, const ServiceLevel& limits);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_BENCH_STATS_H_
